package catalog

// SetMaxAnswer makes a catalog take answers of at most n bytes.
func SetMaxAnswer(c *Catalog, n int) { c.maxAnswer = n }

// Before reports whether replica a comes before replica b in the order of a cluster.
func Before(cluster, a, b string) bool { return New(Config{Cluster: cluster}).before(a, b) }
