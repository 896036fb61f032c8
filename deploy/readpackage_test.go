package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// debian reads a Debian package.
func debian(t *testing.T, file string) packaged {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := packaged{files: map[string]string{}, scripts: map[string]string{}}
	untar(t, b, "data.tar.gz", func(h *tar.Header, _ string) {
		p.files[strings.TrimPrefix(h.Name, ".")] = fmt.Sprintf("%04o %s:%s", h.Mode, h.Uname, h.Gname)
	})
	names := map[string]string{"./postinst": "after installation", "./prerm": "before removal", "./postrm": "after removal"}
	untar(t, b, "control.tar.gz", func(h *tar.Header, content string) {
		switch name, script := names[h.Name]; {
		case script && h.Mode&0o111 == 0o111:
			p.scripts[name] = content
		case h.Name == "./conffiles":
			p.config = strings.Fields(content)
		}
	})
	return p
}

// untar calls each for the files of an archive in a Debian package.
func untar(t *testing.T, archive []byte, name string, each func(h *tar.Header, content string)) {
	t.Helper()
	data, err := member(archive, name)
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			each(h, string(content))
		}
	}
}

// member returns a file of an ar archive.
func member(archive []byte, name string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(archive, []byte("!<arch>\n"))
	for ok && len(rest) >= 60 {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size > len(rest)-60 {
			break
		}
		if strings.TrimRight(strings.TrimSpace(string(rest[:16])), "/") == name {
			return rest[60 : 60+size], nil
		}
		rest = rest[60+size+size%2:]
	}
	return nil, fmt.Errorf("the package has no %s", name)
}

// The tags of an RPM's header.
const (
	rpmPostInstall = 1024
	rpmPreRemove   = 1025
	rpmPostRemove  = 1026
	rpmModes       = 1030
	rpmFlags       = 1037
	rpmUsers       = 1039
	rpmGroups      = 1040
	rpmDirIndexes  = 1116
	rpmBaseNames   = 1117
	rpmDirNames    = 1118

	rpmConfigNoReplace = 1 | 1<<4
)

// redHat reads the header of an RPM.
func redHat(t *testing.T, file string) packaged {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := readHeader(b[96:]) // behind the lead
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHeader(b[96+(signature.size+7)/8*8:])
	if err != nil {
		t.Fatal(err)
	}
	p := packaged{files: map[string]string{}, scripts: map[string]string{
		"after installation": h.text(rpmPostInstall)[0], "before removal": h.text(rpmPreRemove)[0], "after removal": h.text(rpmPostRemove)[0],
	}}
	dirs, modes, flags := h.text(rpmDirNames), h.numbers(rpmModes, 2), h.numbers(rpmFlags, 4)
	for i, base := range h.text(rpmBaseNames) {
		name := dirs[h.numbers(rpmDirIndexes, 4)[i]] + base
		if modes[i]&0o170000 != 0o100000 {
			continue // no regular file
		}
		p.files[name] = fmt.Sprintf("%04o %s:%s", modes[i]&0o7777, h.text(rpmUsers)[i], h.text(rpmGroups)[i])
		if flags[i]&rpmConfigNoReplace == rpmConfigNoReplace {
			p.config = append(p.config, name)
		}
	}
	return p
}

// header is a header of an RPM: an index, and the values that it points to.
type header struct {
	size  int // with its index
	at    map[uint32]int
	count map[uint32]int
	store []byte
}

func readHeader(b []byte) (h header, err error) {
	const start, entry = 16, 16
	if len(b) < start || !bytes.HasPrefix(b, []byte{0x8e, 0xad, 0xe8, 1}) {
		return h, errors.New("this is no header of an RPM")
	}
	n, size := int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
	h = header{size: start + n*entry + size, at: map[uint32]int{}, count: map[uint32]int{}}
	if len(b) < h.size {
		return h, errors.New("the header of the RPM is cut off")
	}
	h.store = b[start+n*entry : h.size]
	for i := range n {
		e := b[start+i*entry:]
		tag := binary.BigEndian.Uint32(e)
		h.at[tag], h.count[tag] = int(binary.BigEndian.Uint32(e[8:])), int(binary.BigEndian.Uint32(e[12:]))
	}
	return h, nil
}

// text returns the texts of a tag; one that is empty when there are none.
func (h header) text(tag uint32) []string {
	if h.count[tag] == 0 {
		return []string{""}
	}
	return strings.SplitN(string(h.store[h.at[tag]:]), "\x00", h.count[tag]+1)[:h.count[tag]]
}

// numbers returns the numbers of a tag, of so many bytes each.
func (h header) numbers(tag uint32, size int) (all []int) {
	for i := range h.count[tag] {
		b := h.store[h.at[tag]+i*size:]
		if size == 2 {
			all = append(all, int(binary.BigEndian.Uint16(b)))
		} else {
			all = append(all, int(binary.BigEndian.Uint32(b)))
		}
	}
	return all
}
