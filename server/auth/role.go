package auth

import "fmt"

// Role is what a principal may do with a cluster. A greater one includes the smaller ones.
type Role int

// The roles.
const (
	None     Role = iota // nothing; of an operation or a page: anyone
	Viewer               // look: status, list, get, watch
	Operator             // and change what can be made again: save, reconcile, verify, prune, update
	Admin                // and what cannot be undone, or gives the secrets away: delete, unpin, retire a node, download
	Nobody               // of a page: it is closed
)

var roleNames = map[Role]string{None: "none", Viewer: "viewer", Operator: "operator", Admin: "admin", Nobody: "nobody"}

// String returns the name of the role.
func (r Role) String() string { return roleNames[r] }

// ParseRole returns the role that a rule gives.
func ParseRole(name string) (Role, error) {
	for _, r := range []Role{Viewer, Operator, Admin} {
		if r.String() == name {
			return r, nil
		}
	}
	return None, fmt.Errorf("%.60q is not one of viewer, operator and admin", name)
}

// ParseNeed returns the role that a page needs.
func ParseNeed(name string) (Role, error) {
	switch name {
	case "open":
		return None, nil
	case "closed":
		return Nobody, nil
	}
	r, err := ParseRole(name)
	if err != nil {
		return Nobody, fmt.Errorf("%.60q is not one of open, viewer, operator, admin and closed", name)
	}
	return r, nil
}

// Operation is a line of the rule book.
type Operation struct {
	Needs   Role // on every cluster that the request is about
	Audited bool // it changes something, or gives a snapshot away
}

// Unpin is the operation of an Update that takes a pin away: retention may delete the snapshot then.
const Unpin = "Unpin"

// Retire is the operation of a Reconcile that makes the catalog forget the directories of nodes.
const Retire = "Retire"

// book is the rule book: the operations by the names of their RPCs.
var book = map[string]Operation{
	"WhoAmI":       {Needs: None},
	"Get":          {Needs: Viewer},
	"List":         {Needs: Viewer},
	"Watch":        {Needs: Viewer},
	"ListClusters": {Needs: Viewer},
	"GetCluster":   {Needs: Viewer},

	"GetRecoveryWindow": {Needs: Viewer},

	"Save":      {Needs: Operator, Audited: true},
	"Reconcile": {Needs: Operator, Audited: true},
	"Verify":    {Needs: Operator, Audited: true},
	"Prune":     {Needs: Operator, Audited: true},
	"Update":    {Needs: Operator, Audited: true},
	Unpin:       {Needs: Admin, Audited: true},
	Retire:      {Needs: Admin, Audited: true},
	"Delete":    {Needs: Admin, Audited: true},
	"Download":  {Needs: Admin, Audited: true},
}

// OperationOf returns the line of the rule book for an operation, and whether there is one. An operation that the book
// does not know needs the greatest role: an RPC that was forgotten here is closed, and not open.
func OperationOf(name string) (Operation, bool) {
	op, ok := book[name]
	if !ok {
		op = Operation{Needs: Admin, Audited: true}
	}
	return op, ok
}
