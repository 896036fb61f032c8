// Package oidc verifies the tokens of issuers of OpenID Connect, those of Kubernetes service accounts among them.
package oidc
