package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// page is the folder of the page that is in the program.
const page = "web/demo"

// bills writes what the npm packages, and the page that is in each program, are made
// of. By npm itself, out of the lock file, so that nothing has to be installed.
func (r release) bills(ctx context.Context, version string) error {
	folders, err := filepath.Glob(filepath.Join(r.root, "web/packages/*"))
	if err != nil {
		return err
	}
	web := filepath.Join(r.root, "web")
	for _, folder := range append(folders, filepath.Join(r.root, page)) {
		text, err := r.run(ctx, nil, "npm", "sbom", "--prefix", "web", "--package-lock-only", "--sbom-format=cyclonedx", "--workspace", folder)
		if err != nil {
			return err
		}
		of, bill, err := billOf(text, web, folder)
		if err != nil {
			return fmt.Errorf("bill of materials of %s: %w", folder, err)
		}
		file := strings.NewReplacer("@", "", "/", "-").Replace(of.Name) + "-" + of.Version // as npm names an archive
		if folder == filepath.Join(r.root, page) {
			file = strings.Join([]string{name, strings.TrimPrefix(version, "v"), "page"}, "_")
		}
		if err := r.write(file+".cdx.json", bill); err != nil {
			return err
		}
	}
	return nil
}

// manifest is a package.json.
type manifest struct {
	Name, Version                 string
	Dependencies, DevDependencies map[string]string
}

func manifestOf(folder string) (m manifest, err error) {
	text, err := os.ReadFile(filepath.Join(folder, "package.json"))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// billOf is npm's bill of a folder, cut down to what that takes to run. (`npm sbom --omit=dev` leaves out what any other folder has among
// its devDependencies, React of the page for one.) What differs from machine to
// machine is left out: a number drawn by lot, the time, npm's version.
func billOf(text []byte, web, folder string) (of manifest, _ []byte, err error) {
	if of, err = manifestOf(folder); err != nil {
		return of, nil, err
	}
	var bill struct {
		Schema       string           `json:"$schema"`
		Format       string           `json:"bomFormat"`
		Spec         string           `json:"specVersion"`
		Version      int              `json:"version"`
		Metadata     map[string]any   `json:"metadata"`
		Components   []map[string]any `json:"components"`
		Dependencies []dependency     `json:"dependencies"`
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		return of, nil, err
	}
	own, err := ofWorkspace(web)
	if err != nil {
		return of, nil, err
	}
	needs := make(map[string]*dependency) // by reference
	for i := range bill.Dependencies {
		d := &bill.Dependencies[i]
		if m, ok := own[d.Ref]; ok {
			d.DependsOn = slices.DeleteFunc(d.DependsOn, func(ref string) bool {
				_, runs := m.Dependencies[ref[:strings.LastIndexByte(ref, '@')]]
				return !runs
			})
		}
		needs[d.Ref] = d
	}
	root := of.Name + "@" + of.Version
	in := map[string]bool{}
	for todo := []string{root}; len(todo) > 0; todo = todo[1:] {
		if d := needs[todo[0]]; d != nil && !in[todo[0]] {
			in[todo[0]] = true
			todo = append(todo, d.DependsOn...)
		}
	}
	bill.Metadata = map[string]any{"tools": []any{map[string]string{"vendor": "npm", "name": "cli"}}}
	bill.Components = slices.DeleteFunc(bill.Components, func(c map[string]any) bool {
		ref, _ := c["bom-ref"].(string)
		if ref == root {
			bill.Metadata["component"] = c
		}
		return ref == root || !in[ref]
	})
	bill.Dependencies = slices.DeleteFunc(bill.Dependencies, func(d dependency) bool { return !in[d.Ref] })
	if bill.Metadata["component"] == nil {
		return of, nil, fmt.Errorf("npm doesn't know %s", root)
	}
	out, err := json.MarshalIndent(bill, "", "  ")
	return of, append(out, '\n'), err
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// ofWorkspace are the manifests of the packages that are ours, by reference.
func ofWorkspace(web string) (map[string]manifest, error) {
	own := make(map[string]manifest)
	for _, pattern := range []string{"*/package.json", "packages/*/package.json"} {
		files, err := filepath.Glob(filepath.Join(web, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			m, err := manifestOf(filepath.Dir(file))
			if err != nil {
				return nil, err
			}
			own[m.Name+"@"+m.Version] = m
		}
	}
	return own, nil
}
