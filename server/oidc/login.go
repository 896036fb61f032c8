package oidc

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/server/auth"
)

var _ auth.LoginVerifier = (*Issuer)(nil)

// standardScopes are those by which an issuer puts a name and a mail address into a token.
var standardScopes = []string{"profile", "email"}

// LoginURL implements [auth.LoginVerifier].
func (i *Issuer) LoginURL(ctx context.Context, l auth.LoginRequest) (string, error) {
	known, err := i.ask(ctx)
	if err != nil {
		return "", err
	}
	as, err := i.asClient(known.provider)
	if err != nil {
		return "", err
	}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(l.Verifier)}
	if l.Anew {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "select_account"))
	}
	return as.AuthCodeURL(l.State, opts...), nil
}

// Redeem implements [auth.LoginVerifier].
func (i *Issuer) Redeem(ctx context.Context, code string, l auth.LoginRequest) (*auth.Identity, error) {
	known, err := i.ask(ctx)
	if err != nil {
		return nil, err
	}
	as, err := i.asClient(known.provider)
	if err != nil {
		return nil, err
	}
	text, err := i.exchange(ctx, as, code, l.Verifier)
	if err != nil {
		return nil, err
	}
	t, err := known.logins.Verify(ctx, text)
	if err != nil {
		return nil, errors.New("the ID token is not signed by its issuer, is for another client, or has expired")
	}
	if subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(l.Nonce)) != 1 {
		return nil, errors.New("the ID token is the answer to another login")
	}
	var claims struct {
		Party string `json:"azp"`
	}
	if err := t.Claims(&claims); err != nil || cmp.Or(claims.Party, as.ClientID) != as.ClientID {
		return nil, errors.New("the ID token was issued to another client")
	}
	return i.identity(t)
}

// exchange returns the ID token for a code.
func (i *Issuer) exchange(ctx context.Context, as *oauth2.Config, code, verifier string) (string, error) {
	if file := i.cfg.Login.SecretFile; file != "" {
		secret, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the secret of the client: %w", err)
		}
		as.ClientSecret = strings.TrimSpace(string(secret))
	}
	answer, err := as.Exchange(context.WithValue(ctx, oauth2.HTTPClient, i.direct), code, oauth2.VerifierOption(verifier))
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		// Its text has the whole answer in it, which may be anything.
		return "", fmt.Errorf("the issuer has refused the code with %s, %.60q", e.Response.Status, e.ErrorCode)
	}
	if err != nil {
		return "", errors.New("the issuer does not answer as it should at its token endpoint")
	}
	text, ok := answer.Extra("id_token").(string)
	if !ok || len(text) > maxToken {
		return "", errors.New("the answer of the issuer has no ID token in it, or one of more than 16 KiB")
	}
	return text, nil
}

// asClient returns this service as the issuer knows it, without its secret.
func (i *Issuer) asClient(p *oidc.Provider) (*oauth2.Config, error) {
	endpoint := p.Endpoint()
	for _, at := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback.Is(u.Host)) {
			return nil, errors.New("the issuer describes no endpoints with TLS at which people can log in")
		}
	}
	var says struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&says); err != nil {
		return nil, fmt.Errorf("read the description of the issuer: %w", err)
	}
	// The library would try both ways, and a code is good once. Basic is the default of the protocol.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if i.cfg.Login.SecretFile == "" || len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := i.cfg.Login.Scopes
	if scopes == nil {
		scopes = standardScopes
	}
	return &oauth2.Config{
		ClientID: i.cfg.Login.ClientID, Endpoint: endpoint, RedirectURL: i.cfg.Login.RedirectURL,
		Scopes: append([]string{oidc.ScopeOpenID}, slices.DeleteFunc(slices.Clone(scopes), isOpenID)...),
	}, nil
}

func isOpenID(scope string) bool { return scope == oidc.ScopeOpenID }

// noRedirects keeps a code and a secret at the address that the issuer has described.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
