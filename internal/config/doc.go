// Package config reads the configuration of `snapshotd serve`: flags, then SNAPSHOTD_* variables, then a YAML file,
// then defaults.
//
// The file is strict: an unknown key is an error. All problems are reported at once, each with the origin of the value
// and a way to solve it. Secrets never leave the package in an error or in the printed configuration.
package config
