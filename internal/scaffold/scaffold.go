// Package scaffold writes the beginning of a service: one that builds, passes its
// test and is live in a browser, to go on from. It is what `freshet init` does.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// service is the service as it is written, but for the path of its module and its
// name, which is tasks here: packages of this repository, so that it is built and
// tested here.
//
//go:embed service/*.go service/*.tmpl service/Makefile service/buf.gen.yaml
//go:embed service/proto service/gen service/tasks
//go:embed service/web/app.tsx service/web/gen service/web/index.html service/web/package.json service/web/tsconfig.json service/web/vite.config.js
var service embed.FS

// modulePath is that of the service in this repository.
const modulePath = "github.com/freshet-dev/freshet/internal/scaffold/service"

// Write writes the service into dir, which it makes: with imports of the given
// module, without a go.mod, and under a name as Name gives it, which its proto package,
// its slot and its publication have. It overwrites nothing: a dir that holds anything is
// an error. Files whose name would mean something here have .tmpl behind it.
func Write(dir, module, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: nothing is overwritten; name a new folder", dir)
	}
	names := renaming(name)
	return fs.WalkDir(service, "service", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := service.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := filepath.Rel("service", names.Replace(strings.TrimSuffix(path, ".tmpl")))
		if err != nil {
			return err
		}
		if file == "gitignore" {
			file = ".gitignore"
		}
		renamed, err := rename(file, string(text), names)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return write(filepath.Join(dir, file), strings.ReplaceAll(renamed, modulePath, module))
	})
}

// write writes a file that isn't there.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
