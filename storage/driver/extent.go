package driver

// Extent is the part of an object that is read.
type Extent struct {
	Offset int64
	Length int64 // below 0: to the end
}

// Whole is all of an object.
var Whole = Extent{0, -1}
