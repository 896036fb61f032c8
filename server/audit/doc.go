// Package audit is the audit file: a line of JSON for each call that changes something, and for each download.
package audit
