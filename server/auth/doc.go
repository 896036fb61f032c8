// Package auth says who a caller is and what the caller may do: principals, their roles on clusters, and the rule book
// of operations. It knows certificates and tokens, and neither gRPC nor HTTP.
package auth
