package cmd

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"eventstream/topic"
	"eventstream/topic/format"
)

// prefix begins the names of our variables.
const prefix = "EVENTSTREAM_"

// configFile is a YAML file with settings, by the names of flags, and with sources. A
// service's settings may stand under its name: they go before those at the top.
type configFile struct {
	path     string
	settings map[string]setting // by variable
	keys     []*yaml.Node       // of all, also of other services
	known    map[string]bool    // variables of settings that there are
	source   *topic.Source      // nil if none is described; of records in JSON
	format   format.Kind        // that they are in; "" if none is described
}

// setting is one value in a configFile.
type setting struct {
	key, value string
	at         *yaml.Node
	section    bool // it stands under the name of a service
}

// Sections of a configFile.
var sections = []string{"api", "filter", "gateway", "producer", "dev"}

// readConfig reads the file that args or the environment name, for the command in args. It
// is empty if they name none.
func readConfig(args []string) (*configFile, error) {
	path := os.Getenv(prefix + "CONFIG")
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--config="); ok {
			path = value
		} else if arg == "--config" && i+1 < len(args) {
			path = args[i+1]
		} else if arg == "--" {
			break
		}
	}
	if path == "" {
		return &configFile{known: make(map[string]bool)}, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("--config: %w", err)}
	}
	section := ""
	for _, arg := range args {
		if slices.Contains(sections, arg) {
			section = arg
			break
		}
	}
	return parseConfig(path, data, section)
}

// maxConfig bounds a configFile.
const maxConfig = 1 << 20

// parseConfig reads the settings at the top, and those of a section.
func parseConfig(path string, data []byte, section string) (*configFile, error) {
	c := &configFile{path: path, settings: make(map[string]setting), known: make(map[string]bool)}
	if len(data) > maxConfig {
		return nil, usageError{fmt.Errorf("%s: %d bytes; at most %d are allowed", path, len(data), maxConfig)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", path, err)}
	}
	if len(doc.Content) == 0 {
		return c, nil // it is empty
	}
	for key, value := range c.members(doc.Content[0]) {
		var err error
		switch {
		case key == nil:
			err = c.wrong(value, "want names with values, such as kafka: broker:9092")
		case key.Value == "sources":
			err = c.takeSources(value)
		case value.Kind == yaml.MappingNode && slices.Contains(sections, key.Value):
			err = c.takeSection(value, key.Value == section)
		default:
			err = c.take(key, value, false, true)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// members yields the keys and values of a mapping, or nil and n if it is something else.
func (c *configFile) members(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			yield(nil, n)
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

func (c *configFile) wrong(at *yaml.Node, format string, args ...any) error {
	return usageError{fmt.Errorf("%s:%d:%d: %s", c.path, at.Line, at.Column, fmt.Sprintf(format, args...))}
}

func (c *configFile) takeSection(n *yaml.Node, ours bool) error {
	for key, value := range c.members(n) {
		if err := c.take(key, value, true, ours); err != nil {
			return err
		}
	}
	return nil
}

// variable returns the variable of a setting.
func variable(key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// take notes a setting, if it is for the command that runs.
func (c *configFile) take(key, value *yaml.Node, section, ours bool) error {
	c.keys = append(c.keys, key)
	name := variable(key.Value)
	old, twice := c.settings[name]
	if twice && old.section == section && ours {
		return c.wrong(key, "%s stands here twice, also in line %d", key.Value, old.at.Line)
	}
	text, err := c.text(key.Value, value)
	if err != nil || !ours || twice && old.section {
		return err
	}
	c.settings[name] = setting{key.Value, text, value, section}
	return nil
}

// text returns a value as a variable has it: elements of a list with commas between them.
func (c *configFile) text(key string, n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode:
		return c.text(key, n.Alias)
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return c.expand(n)
	case n.Kind == yaml.SequenceNode:
		list := make([]string, len(n.Content))
		for i, e := range n.Content {
			text, err := c.text(key, e)
			if err != nil {
				return "", err
			}
			if e.Kind == yaml.SequenceNode || strings.Contains(text, ",") {
				return "", c.wrong(e, "%s: an element is a text without commas", key)
			}
			list[i] = text
		}
		return strings.Join(list, ","), nil
	}
	return "", c.wrong(n, "%s: want a text, a number, true, false, or a list of them", key)
}

// expand puts variables in place of ${NAME} in a value. $${ stands for ${.
func (c *configFile) expand(n *yaml.Node) (string, error) {
	var out strings.Builder
	for rest := n.Value; ; {
		before, after, found := strings.Cut(rest, "${")
		if !found {
			out.WriteString(rest)
			return out.String(), nil
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(literal + "${")
			rest = after
			continue
		}
		name, after, closed := strings.Cut(after, "}")
		value, set := os.LookupEnv(name)
		switch {
		case !closed:
			return "", c.wrong(n, "${ has no }; write $${ for the characters themselves")
		case !set:
			return "", c.wrong(n, "the variable %.60s is not set", name)
		}
		out.WriteString(before + value)
		rest = after
	}
}

// check refuses settings that there are not. Those that there are came through fromEnv.
func (c *configFile) check() error {
	for _, key := range c.keys {
		name := variable(key.Value)
		bare, file := strings.CutSuffix(name, "_FILE")
		if key.Value != strings.ToLower(key.Value) || !c.known[name] && !(file && c.known[bare]) {
			return c.wrong(key, "unknown setting %.60q%s", key.Value, c.near(key.Value))
		}
	}
	return nil
}

// near suggests settings whose names are like key.
func (c *configFile) near(key string) string {
	names := &cobra.Command{SuggestionsMinimumDistance: 3}
	for name := range c.known {
		names.AddCommand(&cobra.Command{Use: flagOf(name), Run: func(*cobra.Command, []string) {}})
	}
	if near := names.SuggestionsFor(key); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return "; names are those of flags without their dashes, such as lane-retention"
}

// flagOf returns the name of a setting in files.
func flagOf(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, prefix), "_", "-"))
}

// environment returns the variables of target's fields: from the environment, else from
// files that NAME_FILE names, else from c.
func (c *configFile) environment(target any) (map[string]string, error) {
	all := make(map[string]string)
	fields := variables(target)
	for name := range fields {
		c.known[name] = true
		if value, set := os.LookupEnv(name); set {
			all[name] = value
			continue
		}
		s, set := c.settings[name]
		if set {
			all[name] = s.value
		}
		if _, own := fields[name+"_FILE"]; own {
			continue
		}
		path, ok := os.LookupEnv(name + "_FILE")
		if f, there := c.settings[name+"_FILE"]; !ok && there {
			if set {
				return nil, c.wrong(f.at, "%s and %s: want one of them", f.key, s.key)
			}
			path, ok = f.value, true
		}
		if !ok || path == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s_FILE: %w", name, err)}
		}
		all[name] = strings.TrimRight(string(data), "\r\n")
	}
	return all, nil
}

// variables returns the variables of a struct's fields, and of structs in it, with the names
// of the fields.
func variables(target any) map[string]string {
	all := make(map[string]string)
	addVariables(all, reflect.TypeOf(target).Elem())
	return all
}

func addVariables(all map[string]string, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if tag, ok := f.Tag.Lookup("env"); ok {
			all[prefix+tag] = f.Name
		} else if f.IsExported() && f.Type.Kind() == reflect.Struct {
			addVariables(all, f.Type)
		}
	}
}

// explain says in which setting an error of package env is.
func (c *configFile) explain(target any, err error) error {
	bad, ok := errors.AsType[env.ParseError](err)
	if !ok {
		return usageError{fmt.Errorf("environment: %w", err)}
	}
	for name, field := range variables(target) {
		if field != bad.Name {
			continue
		}
		if _, set := os.LookupEnv(name); !set {
			if s, ok := c.settings[name]; ok {
				return c.wrong(s.at, "%s: want %s, got %.60q", s.key, wanted(bad.Type), s.value)
			}
		}
		return usageError{fmt.Errorf("environment: %s: want %s, got %.60q", name, wanted(bad.Type), os.Getenv(name))}
	}
	return usageError{fmt.Errorf("environment: %w", err)}
}

// wanted names what a setting of some type takes.
func wanted(t reflect.Type) string {
	switch t.String() {
	case "time.Duration":
		return "a duration such as 5m or 24h"
	case "bool":
		return "true or false"
	case "float64":
		return "a number"
	case "string":
		return "a text"
	}
	return "a whole number"
}
