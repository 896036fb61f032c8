//go:build never

package main

// The definitions of the resources of the Prometheus operator are files of its module, which this import keeps in
// go.mod.
import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
