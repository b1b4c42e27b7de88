package cmd

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// withoutFlag are the settings that are no flags, since other users of the machine can read
// those: they come from the environment, from the file that NAME_FILE names, or from a
// configFile.
var withoutFlag = map[string]string{
	"api-key":             "key to the API, for `eventstream seed`",
	"gateway":             "URL of the gateway, for `eventstream listen`, which has --url",
	"token":               "subscriber's token, for `eventstream listen`",
	"kafka-sasl-password": "password, or secret of the OAuth client",
	"registry-password":   "password of --registry-user",
	"registry-token":      "bearer token for the Schema Registry",
	"redis-password":      "password of --redis-user",
	"replay-secret":       "secrets that gateways and the API show to filter services, separated by commas; at least 32 characters each",
	"token-secret":        "secrets that sign tokens (HS256, HS384, HS512), separated by commas; at least 32 bytes each",
}

// options writes all settings in Markdown: first those of several services, then each
// service's own. It fails if there is one that is not described.
func (c *configFile) options(w io.Writer, root *cobra.Command) error {
	type option struct {
		name string
		flag *pflag.Flag
		of   []string // services
	}
	all := make(map[string]*option)
	for _, name := range sections {
		c.flags(service(root, name), func(setting string, f *pflag.Flag) {
			key := strings.Join([]string{setting, f.DefValue, f.Usage}, "\x00") // services may differ in a default
			if all[key] == nil {
				all[key] = &option{name: setting, flag: f}
			}
			all[key].of = append(all[key].of, name)
		})
	}
	groups := make(map[string][]*option)
	for _, o := range all {
		title := several
		if len(o.of) == 1 {
			title = ofOne(o.of[0])
		}
		groups[title] = append(groups[title], o)
	}
	fmt.Fprint(w, "# All settings\n\nMade by `eventstream config options`. How to give them: [Settings](configuration.md).\n")
	fmt.Fprint(w, "\n## Without a flag\n\nThe environment has them, or a file that `EVENTSTREAM_<NAME>_FILE` names. "+
		"Settings files take them by the same names.\n\n| variable | what it is |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(withoutFlag)) {
		fmt.Fprintf(w, "| `%s` | %s |\n", variable(name), withoutFlag[name])
	}
	titles := []string{several}
	for _, name := range sections {
		titles = append(titles, ofOne(name))
	}
	for _, title := range titles {
		fmt.Fprintf(w, "\n## %s\n\n| setting | default | what it does |\n|---|---|---|\n", title)
		slices.SortFunc(groups[title], func(a, b *option) int {
			return cmp.Or(strings.Compare(a.name, b.name), slices.Compare(a.of, b.of))
		})
		for _, o := range groups[title] {
			of := ""
			if len(o.of) > 1 && len(o.of) < len(sections) {
				of = " (" + strings.Join(o.of, ", ") + ")"
			}
			fmt.Fprintf(w, "| `%s` | %s | %s%s |\n", o.name, defaultOf(o.flag), cell(o.flag.Usage), of)
		}
	}
	return c.undescribed(root)
}

const several = "Of several services"

func ofOne(service string) string { return "Of `eventstream " + service + "`" }

// undescribed reports settings of files that are neither flags nor in withoutFlag.
func (c *configFile) undescribed(root *cobra.Command) error {
	left := maps.Clone(c.known)
	for _, command := range root.Commands() {
		c.flags(command, func(name string, _ *pflag.Flag) { delete(left, variable(name)) })
	}
	for name := range withoutFlag {
		delete(left, variable(name))
	}
	if len(left) > 0 {
		return fmt.Errorf("settings that are not described: %s", strings.Join(slices.Sorted(maps.Keys(left)), ", "))
	}
	return nil
}

func defaultOf(f *pflag.Flag) string {
	if value := strings.Trim(f.DefValue, "[]"); value != "" {
		return "`" + value + "`"
	}
	return ""
}

// cell returns text for a cell of a table.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text) }
