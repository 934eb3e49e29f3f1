// Program istiod is Istio's control plane for the test bed, and its judge of rules: the
// name by which it is called, or its first argument, says which of them to be.
//
// As "istio-validate" it reads one DestinationRule a line (JSON, any API version) and
// answers each with one line: "ok", or why Istio's own validation refuses it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/log"
)

// A rule of a cluster with hundreds of zones is long.
const longest = 64 << 20

func main() {
	if len(os.Args) > 1 && filepath.Base(os.Args[0]) != "istio-validate" && os.Args[1] == "istio-validate" {
		os.Args = os.Args[1:]
	}
	if filepath.Base(os.Args[0]) == "istio-validate" {
		validate()
		return
	}
	log.EnableKlogWithCobra()
	if err := app.NewRootCommand().Execute(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

func validate() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 0, 1<<20), longest)
	for in.Scan() {
		if err := check(in.Bytes()); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Println("ok")
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(line []byte) error {
	var object crd.IstioKind
	if err := json.Unmarshal(line, &object); err != nil {
		return err
	}
	config, err := crd.ConvertObject(collections.DestinationRule, &object, "cluster.local")
	if err != nil {
		return err
	}
	_, err = collections.DestinationRule.ValidateConfig(*config)
	return err
}
