// Package certs is the certificate of the service and the CAs of its clients, as their files are now.
package certs
