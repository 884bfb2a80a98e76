// The matching code BuildKit itself runs, over trees that exist in memory only.
//
// Reads one JSON object a line, {"text": an ignore file, "files": [paths]}, and answers
// {"kept": [paths], "error": "…"}; texts and paths are in hexadecimal. Run by ../ignore_oracle.rs.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	gofs "io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

type question struct {
	Text  string
	Files []string
}

type answer struct {
	Kept  []string `json:"kept"`
	Error string   `json:"error"`
}

func text(digits string) string {
	bytes, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return string(bytes)
}

// tree maps a folder to its entries, whole paths; "" is the root.
type tree map[string][]string

func newTree(files []string) tree {
	t := tree{}
	for _, file := range files {
		for p := text(file); p != ""; {
			parent := p[:max(strings.LastIndexByte(p, '/'), 0)]
			if !slices.Contains(t[parent], p) {
				t[parent] = append(t[parent], p)
			}
			p = parent
		}
	}
	for _, entries := range t {
		slices.Sort(entries)
	}
	return t
}

func (t tree) Open(string) (io.ReadCloser, error) { return nil, os.ErrNotExist }

func (t tree) Walk(_ context.Context, _ string, fn gofs.WalkDirFunc) error { return t.walk("", fn) }

func (t tree) walk(folder string, fn gofs.WalkDirFunc) error {
	for _, p := range t[folder] {
		stat := &types.Stat{Path: p, Mode: 0o644}
		_, isDir := t[p]
		if isDir {
			stat.Mode = uint32(os.ModeDir | 0o755)
		}
		err := fn(p, &fsutil.DirEntryInfo{Stat: stat}, nil)
		if err == gofs.SkipDir && isDir {
			continue
		}
		if err == nil && isDir {
			err = t.walk(p, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// kept takes the patterns the way they go: read by the frontend, sent as JSON, applied by fsutil.
func kept(q question) ([]string, error) {
	read, err := ignorefile.ReadAll(strings.NewReader(text(q.Text)))
	if err != nil {
		return nil, err
	}
	sent, err := json.Marshal(read)
	if err != nil {
		return nil, err
	}
	var patterns []string
	if err := json.Unmarshal(sent, &patterns); err != nil {
		return nil, err
	}
	t := newTree(q.Files)
	fs, err := fsutil.NewFilterFS(t, &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		return nil, err
	}
	paths := []string{}
	err = fs.Walk(context.Background(), "", func(p string, _ gofs.DirEntry, _ error) error {
		paths = append(paths, hex.EncodeToString([]byte(p)))
		return nil
	})
	return paths, err
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var q question
		if err := json.Unmarshal(line, &q); err != nil {
			panic(err)
		}
		var a answer
		paths, err := kept(q)
		a.Kept = paths
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			panic(err)
		}
	}
}
