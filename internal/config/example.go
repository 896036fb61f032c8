package config

import _ "embed" // of the example

// Example is a file with comments to begin with. It is valid.
//
//go:embed example.yaml
var Example []byte
