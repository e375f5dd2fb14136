package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/adopt"
	"github.com/freshet-dev/freshet/store/setup"
)

type adoptCmd struct {
	DatabaseURL string   `placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" required:"" help:"The service's database; it is only read."`
	Proto       string   `arg:"" type:"existingdir" help:"Folder of the service's protos, that imports are relative to. All .proto files in it are looked at."`
	Import      []string `placeholder:"DIR" type:"existingdir" help:"Folders that other imports are relative to. Those of protobuf, protovalidate and Freshet are known."`
	Write       bool     `help:"Put the proposals into the files."`
}

// Help is printed by `freshet adopt --help`.
func (*adoptCmd) Help() string {
	return `Reads a service's protos and its database, and proposes which tables tell which topics, and what each method reads or writes; it goes by names, and says why. Nothing is written without --write:

  freshet adopt proto --database-url postgres://app@db/shop
  freshet adopt proto --database-url postgres://app@db/shop --write

What it leaves out it names behind a !, with why, and what to do: a column that comes from another table, a message or a table without a counterpart, a field that no topic goes by, a filter without which a list has no topic, a column that may be NULL, an id that the database makes. When you have given a message its source by hand, run it again: it goes by that.

Read what it proposes as you would a colleague's change. The program says at its start what a contract lacks, and --audit-reads what a handler reads beyond it.`
}

// Run proposes a contract.
func (c *adoptCmd) Run(ctx context.Context, to streams) error {
	sources, err := protoFiles(c.Proto)
	if err != nil {
		return err
	}
	files, err := c.compile(ctx, sources)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(files, func(fd protoreflect.FileDescriptor) bool { return fd.Services().Len() > 0 }) {
		return fmt.Errorf("no file in %s has a service: name the folder with the service's protos", c.Proto)
	}
	tables, err := c.tables(ctx)
	if err != nil {
		return err
	}
	found := adopt.Propose(files, tables)
	for _, p := range found.Proposals {
		c.print(to.out, p)
	}
	if len(found.Unread) > 0 {
		fmt.Fprintf(to.out, "No message is a row of these tables: %s\n  ! what a method reads or joins of one of them changes without its being told: give it a message with a source, and the method a topic of it\n", names(found.Unread))
	}
	if len(found.Records) > 0 {
		fmt.Fprintf(to.out, "Left out, since a migration tool keeps its record there: %s\n", names(found.Records))
	}
	for _, t := range found.Refused {
		fmt.Fprintf(to.out, "Left out, since no source can have it: %s\n  ! %s\n", t, t.Refused)
	}
	changed, err := c.apply(ctx, sources, files, found.Proposals)
	if err != nil {
		return err
	}
	switch {
	case len(changed) == 0:
		fmt.Fprintln(to.out, nothing(found, len(tables)))
	case !c.Write:
		fmt.Fprintf(to.out, "Nothing was written. With --write, %s changed as above.\n", are(len(changed), "file"))
	default:
		for path, text := range changed {
			if err := os.WriteFile(filepath.Join(c.Proto, path), []byte(text), 0o600); err != nil {
				return err
			}
		}
		fmt.Fprintf(to.out, "%s changed. Look at them, and generate the code anew.\n", are(len(changed), "file"))
	}
	if found.Open > 0 {
		fmt.Fprintf(to.out, "%s yours to decide: a service starts once each of its methods has a contract, or stands in a service of its own.\n", are(found.Open, "method"))
		return errFindings
	}
	return nil
}

// print prints a proposal: its options, why (-), and what was left out (!).
func (c *adoptCmd) print(out io.Writer, p adopt.Proposal) {
	at := p.Element.ParentFile().SourceLocations().ByDescriptor(p.Element)
	fmt.Fprintf(out, "%s:%d: %s\n", filepath.Join(c.Proto, p.Element.ParentFile().Path()), at.StartLine+1, p.Element.FullName())
	for _, line := range p.Options {
		fmt.Fprintf(out, "    %s\n", line)
	}
	for _, why := range p.Why {
		fmt.Fprintf(out, "  - %s\n", why)
	}
	for _, left := range p.Left {
		fmt.Fprintf(out, "  ! %s\n", left)
	}
}

// nothing says why there is nothing to propose.
func nothing(found adopt.Outcome, tables int) string {
	switch {
	case found.Declared > 0 && found.Open == 0:
		return fmt.Sprintf("There is nothing to propose: %s declared already.", are(found.Declared, "method"))
	case found.Declared > 0:
		return fmt.Sprintf("There is nothing to propose for what is left; %s declared already.", are(found.Declared, "method"))
	case found.Rows == 0:
		return fmt.Sprintf("There is nothing to propose: no message is named like one of the %d tables. Is this the service's database?", tables)
	default:
		return "There is nothing to propose: no method deals with a message that is a row of a table, or the table is one that no source can have."
	}
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// are is a number of things with its verb.
func are(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return count(n, thing) + " are"
}

func names(tables []*adopt.Table) string {
	all := make([]string, len(tables))
	for i, t := range tables {
		all[i] = t.String()
	}
	return strings.Join(all, ", ")
}

// tables reads those of the database.
func (c *adoptCmd) tables(ctx context.Context) ([]*adopt.Table, error) {
	conn, err := setup.Connect(ctx, c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has only read
	tables, err := adopt.Tables(ctx, conn)
	if err == nil && len(tables) == 0 {
		err = fmt.Errorf("database %q has no tables: run the service's migrations there first, or name another by --database-url", conn.Config().Database)
	}
	return tables, err
}

// apply returns the new texts of the files that the proposals change, by their paths. What
// they say has passed lint.
func (c *adoptCmd) apply(ctx context.Context, sources map[string]string, files []protoreflect.FileDescriptor, proposals []adopt.Proposal) (map[string]string, error) {
	changed, after := make(map[string]string), make(map[string]string, len(sources))
	for _, fd := range files {
		text, err := adopt.Apply(fd, sources[fd.Path()], proposals)
		if err != nil {
			return nil, err
		}
		after[fd.Path()] = text
		if text != sources[fd.Path()] {
			changed[fd.Path()] = text
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	files, err := c.compile(ctx, after)
	if err != nil {
		return nil, fmt.Errorf("the proposals can't be put into these files by themselves; put them there by hand: %w", err)
	}
	image, err := imageOf(files)
	if err != nil {
		return nil, err
	}
	found, err := contract.Lint(image)
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, f := range found {
		if f.Rule != "method-declared" { // of what is left to decide
			wrong = append(wrong, errors.New(f.String()))
		}
	}
	return changed, errors.Join(wrong...)
}

// protoFiles reads all .proto files below a folder, by their paths in it.
func protoFiles(dir string) (map[string]string, error) {
	sources := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sources[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err == nil && len(sources) == 0 {
		err = fmt.Errorf("%s holds no .proto files", dir)
	}
	return sources, err
}

// compile compiles files as buf does: by the same compiler.
func (c *adoptCmd) compile(ctx context.Context, sources map[string]string) ([]protoreflect.FileDescriptor, error) {
	names := slices.Sorted(maps.Keys(sources))
	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard | protocompile.SourceInfoExtraComments,
		Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)},
			&protocompile.SourceResolver{ImportPaths: c.Import},
			protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) { // what this program knows
				fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
				return protocompile.SearchResult{Desc: fd}, err
			}),
		}),
	}
	compiled, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	files := make([]protoreflect.FileDescriptor, len(compiled))
	for i, f := range compiled {
		files[i] = f
	}
	return files, nil
}

// imageOf is what buf build makes of the files.
func imageOf(files []protoreflect.FileDescriptor) ([]byte, error) {
	set, seen := new(descriptorpb.FileDescriptorSet), make(map[string]bool)
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	for _, fd := range files {
		add(fd)
	}
	return proto.Marshal(set)
}
