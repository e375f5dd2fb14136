package main

import (
	"fmt"
	"io"
	"os"

	"github.com/freshet-dev/freshet/contract"
)

type lintCmd struct {
	Image string `arg:"" optional:"" help:"A buf image (buf build -o image.binpb), - for standard input. Unset: the contract that this program was built with, without lines."`
}

// Help is printed by `freshet lint --help`.
func (*lintCmd) Help() string {
	return `Prints one finding per line, with file and line, and exits with status 1 if there is one:

  buf build -o - | freshet lint -`
}

// rulePages is where the pages of the rules are.
const rulePages = "https://github.com/freshet-dev/freshet/tree/main/docs/lint"

// Run checks the contract.
func (c *lintCmd) Run(to streams) error {
	if c.Image == "" {
		p, err := program()
		if err != nil {
			return err
		}
		fmt.Fprintf(to.out, "The contract is sound: %s, %s.\n", count(len(p.Methods()), "method"), count(len(p.Sources()), "source"))
		return nil
	}
	image, err := readImage(c.Image)
	if err != nil {
		return err
	}
	findings, err := contract.Lint(image)
	if err != nil {
		return err
	}
	for _, f := range findings {
		fmt.Fprintln(to.out, f)
	}
	if len(findings) > 0 {
		fmt.Fprintln(to.err, "The rules in parentheses have pages that say what to do:", rulePages)
		return errFindings
	}
	described, err := contract.ImageServices(image)
	if err != nil {
		return err
	}
	p, err := contract.Compile(described...)
	if err != nil {
		return err
	}
	fmt.Fprintf(to.err, "no problems in %s, %s\n", count(len(p.Sources())+len(p.Told()), "source"), count(len(p.Methods()), "method"))
	return nil
}

// readImage reads an image, and says how to make one of a folder.
func readImage(file string) ([]byte, error) {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a folder, and an image of its protos is wanted: buf build -o image.binpb", file)
	}
	return readInput(file)
}

// readInput reads a file, or standard input where its name is -.
func readInput(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}
