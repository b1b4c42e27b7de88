package main

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const width, height = 640 * vg.Length(1), 320 * vg.Length(1)

// Colours that are told apart by everybody (Okabe and Ito).
var colours = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}}

func (s *spec) svg(w io.Writer) error {
	if len(s.Columns) == 0 || len(s.Columns) > len(colours) {
		return fmt.Errorf("columns %q: want 1 to %d", s.Columns, len(colours))
	}
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = s.Title
	p.Y.Label.Text = s.Y
	p.Y.Tick.Marker = plain{plot.DefaultTicks{}}
	p.Legend.Padding = vg.Points(3)
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -vg.Points(12), -vg.Points(4)
	p.Add(plotter.NewGrid())
	var err error
	switch s.Kind {
	case "lines":
		err = s.lines(p)
	case "bars":
		err = s.bars(p)
	default:
		err = fmt.Errorf("kind %q: want lines or bars", s.Kind)
	}
	if err != nil {
		return err
	}
	if s.LogY {
		p.Y.Max *= 3
	} else {
		p.Y.Min, p.Y.Max = 0, 1.3*p.Y.Max // room for the legend
	}
	to, err := p.WriterTo(width, height, "svg")
	if err != nil {
		return err
	}
	_, err = to.WriteTo(w)
	return err
}

func (s *spec) lines(p *plot.Plot) error {
	p.X.Label.Text = s.X
	var ticks plot.ConstantTicks
	for c, values := range s.values {
		points := make(plotter.XYs, len(values))
		for i, v := range values {
			x, err := number(s.labels[i])
			if err != nil {
				return fmt.Errorf("column %q: %w", s.X, err)
			}
			points[i] = plotter.XY{X: x, Y: v}
			if s.LogX && x <= 0 || s.LogY && v <= 0 {
				return errors.New("a logarithmic axis has no place for 0")
			}
			if c == 0 {
				ticks = append(ticks, plot.Tick{Value: x, Label: s.labels[i]})
			}
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, dots.Color = colours[c], colours[c]
		line.Width = vg.Points(1.5 * float64(len(s.values)-c)) // one that lies below another shows
		dots.Shape = draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(s.Columns[c], line, dots)
	}
	p.X.Tick.Marker = ticks
	if s.LogX {
		p.X.Scale = plot.LogScale{}
	}
	if s.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plain{plot.LogTicks{}}
	}
	return nil
}

func (s *spec) bars(p *plot.Plot) error {
	if s.LogX || s.LogY {
		return errors.New("bars begin at 0: no logarithmic axes")
	}
	group := vg.Points(400) / vg.Length(len(s.labels))
	each := min(group*0.8/vg.Length(len(s.values)), vg.Points(40))
	for c, values := range s.values {
		b, err := plotter.NewBarChart(plotter.Values(values), each)
		if err != nil {
			return err
		}
		b.Color, b.LineStyle.Width = colours[c], 0
		b.Offset = each * (vg.Length(c) - vg.Length(len(s.values)-1)/2)
		p.Add(b)
		if len(s.values) > 1 {
			p.Legend.Add(s.Columns[c], b)
		}
	}
	p.NominalX(s.labels...)
	p.X.Min, p.X.Max = -0.6, float64(len(s.labels))-0.4
	return nil
}

// plain writes the numbers on an axis as people do.
type plain struct{ plot.Ticker }

func (p plain) Ticks(lowest, highest float64) []plot.Tick {
	ticks := p.Ticker.Ticks(lowest, highest)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = strconv.FormatFloat(t.Value, 'g', 6, 64)
		}
	}
	return ticks
}
