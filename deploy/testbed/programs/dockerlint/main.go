// Reads container files as BuildKit does and prints each warning of its linter. Ends with 1
// where there is a warning, with 2 where a file cannot be read as one.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	worst := 0
	for _, path := range os.Args[1:] {
		worst = max(worst, judge(path))
	}
	os.Exit(worst)
}

func judge(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	file, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		return 2
	}
	count := 0
	warn := func(rule, description, _ string, message string, places []parser.Range) {
		line := 0
		if len(places) > 0 {
			line = places[0].Start.Line
		}
		fmt.Printf("%s:%d: %s: %s (%s)\n", path, line, rule, message, description)
		count++
	}
	stages, _, err := instructions.Parse(file.AST, linter.New(&linter.Config{Warn: warn}))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		return 2
	}
	for _, warning := range file.Warnings {
		fmt.Printf("%s: %s\n", path, warning.Short)
		count++
	}
	fmt.Printf("%s: %d stages, %d warnings\n", path, len(stages), count)
	if count > 0 {
		return 1
	}
	return 0
}
