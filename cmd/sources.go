package cmd

import (
	"go.yaml.in/yaml/v3"

	"eventstream/event"
	"eventstream/topic"
	"eventstream/topic/format"
)

// takeSources reads how records are read as events.
func (c *configFile) takeSources(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode || len(n.Content) != 1 {
		return c.wrong(n, "sources: want a list of one source; more than one topic is not possible yet")
	}
	var fields []topic.Field
	var envelope topic.Envelope
	var err error
	for key, value := range c.members(n.Content[0]) {
		if key == nil {
			return c.wrong(value, "a source: want topic, format, envelope and map")
		}
		switch key.Value {
		case "topic":
			if err := c.take(key, value, false, true); err != nil {
				return err
			}
		case "format":
			if c.format, err = format.ParseKind(value.Value); err != nil && value.Value == string(topic.Debezium) {
				return c.wrong(value, "format: %v; debezium is an envelope: of any of these", err)
			} else if err != nil {
				return c.wrong(value, "format: %v", err)
			}
		case "envelope":
			if envelope, err = topic.ParseEnvelope(value.Value); err != nil {
				return c.wrong(value, "envelope: %v", err)
			}
		case "map":
			for name, place := range c.members(value) {
				f, err := c.field(name, place)
				if err != nil {
					return err
				}
				fields = append(fields, f)
			}
		default:
			return c.wrong(key, "unknown member %.60q of a source; allowed are topic, format, envelope, map", key.Value)
		}
	}
	if c.source, err = topic.NewSource(fields, envelope); err != nil {
		return c.wrong(n.Content[0], "map: %v", err)
	}
	return nil
}

// field reads where events have what filters call by a name.
func (c *configFile) field(name, place *yaml.Node) (f topic.Field, err error) {
	if name == nil {
		return f, c.wrong(place, "map: want names with places, such as event_type: metadata.type")
	}
	f.Name = name.Value
	if place.Kind == yaml.ScalarNode && place.Tag != "!!null" {
		f.Path = place.Value
	} else {
		for key, value := range c.members(place) {
			if key == nil || value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
				return f, c.wrong(place, "%s: want a path, or one of path, header, key, topic, const, cloudevent, and as", f.Name)
			}
			if err := c.place(&f, key, value); err != nil {
				return f, err
			}
		}
	}
	if _, err := topic.NewSource([]topic.Field{f}, ""); err != nil {
		return f, c.wrong(place, "%v", err)
	}
	return f, nil
}

func (c *configFile) place(f *topic.Field, key, value *yaml.Node) (err error) {
	switch key.Value {
	case "path":
		f.Path = value.Value
	case "header":
		f.Header = value.Value
	case "cloudevent":
		f.CloudEvent = value.Value
	case "const":
		f.Const, err = c.expand(value)
		return err
	case "key", "topic":
		if value.Value != "true" {
			return c.wrong(value, "%s: %s: want true", f.Name, key.Value)
		}
		f.Key, f.Topic = f.Key || key.Value == "key", f.Topic || key.Value == "topic"
	case "as":
		if f.As, err = event.ParseAs(value.Value); err != nil {
			return c.wrong(value, "%s: as: %v", f.Name, err)
		}
	default:
		return c.wrong(key, "%s: unknown %.60q; allowed are path, header, key, topic, const, cloudevent, as", f.Name, key.Value)
	}
	return nil
}
