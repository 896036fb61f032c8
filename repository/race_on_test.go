//go:build race

package repository_test

const raceDetector = true
