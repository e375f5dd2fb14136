// Command grafana proves that a file is a dashboard by Grafana's own schema, with
// nothing in it that the schema doesn't know. In a module of its own: nobody else
// needs that schema.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var d dashboard.Dashboard
	// An error without a text is none: the list of them is never nil.
	if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	if err := d.Validate(); err != nil && err.Error() != "" {
		return err
	}
	return nil
}
