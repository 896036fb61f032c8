package wire_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reasons returns the value of every constant in the domain's list.
func reasons(t *testing.T) []snapshot.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../snapshot/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []snapshot.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		for _, v := range spec.Values {
			value, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, snapshot.Reason(value))
		}
		return true
	})
	return found
}

// The table says of every reason its meaning and the operator's way out.
func TestEveryReasonIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "| reason | what it means | what to do |")
	for _, r := range reasons(t) {
		if !strings.Contains(table, "`"+string(r)+"`") {
			t.Errorf("docs/operations.md says nothing of %s", r)
		}
	}
}

// TestNoReasonIsForgotten: a reason without a code would reach callers as a defect of the service.
func TestNoReasonIsForgotten(t *testing.T) {
	all := reasons(t)
	if len(all) < 15 {
		t.Fatalf("only %d reasons were found: %q", len(all), all)
	}
	for _, r := range all {
		code := wire.Status(r.New(""), "", nil).Code()
		if code == codes.OK || code == codes.Unknown || (code == codes.Internal) != (r == snapshot.ReasonInternal) {
			t.Errorf("%s has the code %v", r, code)
		}
	}
}

func TestDetailsAreReadAsTheyWereWritten(t *testing.T) {
	failed := snapshot.ReasonNoSpace.New("").On("local")
	failed.Field, failed.Retry = "backends", time.Minute
	d := wire.DetailsOf(wire.Status(failed, "prod", &snapshot.Snapshot{Name: "a"}).Err())
	if d.Reason != snapshot.ReasonNoSpace || d.Backend != "local" || d.Cluster != "prod" || d.Field != "backends" ||
		d.Retry != time.Minute || d.Snapshot.GetName() != "a" {
		t.Errorf("details are %+v", d)
	}
}

func TestNoErrorIsOK(t *testing.T) {
	if err := wire.Status(nil, "prod", nil).Err(); err != nil {
		t.Errorf("the status of no error is %v", err)
	}
}

func TestErrorsOfOthersHaveNoDetails(t *testing.T) {
	for _, err := range []error{nil, errors.New("plain"), status.Error(codes.Unavailable, "connection refused")} {
		if d := wire.DetailsOf(err); !reflect.DeepEqual(d, wire.Details{}) {
			t.Errorf("details of %v are %+v", err, d)
		}
	}
}
