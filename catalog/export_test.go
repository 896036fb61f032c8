package catalog

// SetMaxAnswer makes a catalog take answers of at most n bytes.
func SetMaxAnswer(c *Catalog, n int) { c.maxAnswer = n }
