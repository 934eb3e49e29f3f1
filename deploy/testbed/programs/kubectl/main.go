// Program kubectl is the command of Kubernetes' users, of the version of the control plane of
// the test bed. The commands of the documentation are run with it.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

func main() { os.Exit(cli.Run(cmd.NewDefaultKubectlCommand())) }
