// Package page holds the rules of a listing that the implementations of the catalog share: its order, its filters, and
// the tokens that continue it.
package page
