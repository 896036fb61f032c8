// Package session lets people log in to the console at an issuer of OpenID Connect, and knows their browsers by a
// cookie.
//
// A session is all in its cookie, sealed with a key that the replicas may share: no replica remembers it, and each one
// that has the key accepts it. So a logout is known to one replica alone, and sessions that replicas share are short.
package session
