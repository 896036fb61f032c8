// Package limits bounds what callers may take of the service at a time: connections, calls, saves, and places of
// downloads. It knows neither the protocols nor the roles.
package limits
