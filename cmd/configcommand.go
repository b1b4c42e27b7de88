package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"eventstream/internal/redact"
	"eventstream/topic"
	"eventstream/topic/format"
)

func (a *app) configCommand() (*cobra.Command, error) {
	c := &cobra.Command{
		Use: "config", Short: "Check or print settings",
		Long: "Settings come from flags, else from the environment, else from the YAML file that --config\n" +
			"names. In it they have the names of flags. Those of one service may stand under its name, and\n" +
			"go before those at the top. ${NAME} stands for a variable. A setting whose name ends in -file,\n" +
			"such as postgres-file, and a variable that ends in _FILE, name a file with the value.",
		Example: "  eventstream config check --config eventstream.yaml\n" +
			"  eventstream config print gateway --config eventstream.yaml\n" +
			"  eventstream config schema > eventstream.schema.json",
		Args: noCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use: "check", Short: "Check the file that --config names", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.config.path == "" {
				return usageError{fmt.Errorf("config check needs --config or EVENTSTREAM_CONFIG")}
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d settings, all known\n", a.config.path, len(a.config.keys))
			return nil // what is wrong has ended the command before
		},
	}, &cobra.Command{
		Use: "print [service]", Short: "Print the settings of a service, without passwords", Args: oneService,
		RunE: func(c *cobra.Command, args []string) error {
			return a.config.print(c.OutOrStdout(), service(c.Root(), args[0]))
		},
	}, &cobra.Command{
		Use: "schema", Short: "Print a JSON Schema of the file, for editors", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			out := json.NewEncoder(c.OutOrStdout())
			out.SetEscapeHTML(false)
			out.SetIndent("", "  ")
			return out.Encode(a.config.schema(c.Root()))
		},
	}, &cobra.Command{
		Use: "options", Short: "Print all settings, in Markdown", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.config.options(c.OutOrStdout(), c.Root()) },
	})
	return c, nil
}

func oneService(c *cobra.Command, args []string) error {
	if len(args) != 1 || !slices.Contains(sections, args[0]) {
		return usageError{fmt.Errorf("%s takes one of %s; see %s --help", c.Name(), strings.Join(sections, ", "), c.CommandPath())}
	}
	return nil
}

// service returns the command of a name that there is.
func service(root *cobra.Command, name string) *cobra.Command {
	all := root.Commands()
	return all[slices.IndexFunc(all, func(c *cobra.Command) bool { return c.Name() == name })]
}

// flags visits the flags of a command that can stand in a file, with their names there: those
// of the producer begin with its name.
func (c *configFile) flags(of *cobra.Command, visit func(name string, f *pflag.Flag)) {
	of.InheritedFlags() // has Flags hold them, too
	of.Flags().VisitAll(func(f *pflag.Flag) {
		for _, name := range []string{f.Name, of.Name() + "-" + f.Name} {
			if c.known[variable(name)] {
				visit(name, f)
				return
			}
		}
	})
}

func (c *configFile) print(w io.Writer, service *cobra.Command) error {
	all := yaml.Node{Kind: yaml.MappingNode}
	c.flags(service, func(name string, f *pflag.Flag) {
		value := &yaml.Node{Kind: yaml.ScalarNode, Value: redact.Text(f.Value.String())}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, e := range list.GetSlice() {
				value.Content = append(value.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: redact.Text(e)})
			}
		}
		all.Content = append(all.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
	})
	out := yaml.NewEncoder(w)
	out.SetIndent(2)
	if err := out.Encode(&all); err != nil {
		return err
	}
	return out.Close()
}

// schema describes the file (JSON Schema, draft 2020-12).
func (c *configFile) schema(root *cobra.Command) map[string]any {
	object := func(properties map[string]any) map[string]any {
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	}
	// A name of a flag is also the name of a setting; one without a flag, such as a
	// password, is taken too. So other names are allowed here, and refused by us.
	top := make(map[string]any)
	for _, name := range sections {
		own := make(map[string]any)
		c.flags(service(root, name), func(name string, f *pflag.Flag) {
			p := map[string]any{"description": f.Usage, "type": schemaTypes(f.Value.Type())}
			own[name] = p
			top[name] = p
		})
		section := object(own)
		section["description"] = "settings of the service " + name + " alone"
		delete(section, "additionalProperties")
		top[name] = section
	}
	text := map[string]any{"type": "string"}
	place := object(map[string]any{
		"path": text, "header": text, "cloudevent": text, "const": text,
		"key": map[string]any{"const": true}, "topic": map[string]any{"const": true},
		"as": map[string]any{"enum": []string{"number", "string", "unix", "unix_ms", "unix_us"}},
	})
	top["sources"] = map[string]any{
		"description": "topics, and where their events have what filters name",
		"type":        "array", "minItems": 1, "maxItems": 1,
		"items": object(map[string]any{
			"topic":    text,
			"format":   map[string]any{"enum": format.Kinds, "default": format.JSON},
			"envelope": map[string]any{"const": topic.Debezium},
			"map":      map[string]any{"type": "object", "additionalProperties": map[string]any{"anyOf": []any{text, place}}},
		}),
	}
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "eventstream", "type": "object", "properties": top,
	}
}

// schemaTypes are the types of JSON that a flag of some type takes in a file.
func schemaTypes(flag string) any {
	switch flag {
	case "bool":
		return []string{"boolean", "string"} // a string has ${NAME}
	case "int", "int32", "int64", "uint64":
		return []string{"integer", "string"}
	case "float64":
		return []string{"number", "string"}
	case "stringSlice":
		return []string{"array", "string"}
	}
	return "string"
}
