// Package config reads what `snapshotd serve` is told: flags, then SNAPSHOTD_* variables, then a YAML file, then defaults.
//
// The file is strict: an unknown key is an error. All problems are reported at once, each with the place where the value
// came from and what to do about it. Secrets never leave the package in an error or in the printed configuration.
package config
