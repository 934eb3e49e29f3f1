//! The commands of the documentation that need a cluster, copied into a shell one after the other,
//! page by page, on the test bed: real kubectl, Helm and curl, and the API server, the chart and
//! `stornx` as they are. What is not real: no container runs, so that the daemon of the release is
//! a process of this test, whose log and port the simulated kubelets show.

mod kubelet;
mod shell;
mod walk;

use std::process::Command;

use stornx_testbed::harness::Test;

use crate::{
    documentation::{
        read::Line,
        ways::{Way, of},
    },
    support::TestResult,
    tools::{Objects, istioctl, kubectl, plain_helm, said},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("docs_commands_are_known_to_their_programs", || async { forms() }),
        Test::own("docs_commands_run_page_by_page", kubelet::options(), walk::all)
            .needs_namespace(),
    ]
}

/// Commands that cannot run here: the real program has them, with these options.
fn forms() -> TestResult {
    let (mut count, mut wrong) = (0, Vec::new());
    for line in of(Way::Form)? {
        let mut command = match line.program() {
            "helm" => plain_helm()?,
            "kubectl" => kubectl()?,
            "istioctl" => istioctl()?,
            _ => continue,
        };
        count += 1;
        let checked = known(&mut command, &line).and_then(|()| would_install(&line));
        if let Err(error) = checked {
            wrong.push(format!("{}: {error}", line.at()));
        }
    }
    let line =
        |text: &str| crate::documentation::read::commands("p", &format!("```sh\n{text}\n```"));
    for text in ["kubectl rollout undone", "kubectl get pods --alll"] {
        if known(&mut kubectl()?, &line(text)[0]).is_ok() {
            wrong.push(format!("`{text}` is taken for a command"));
        }
    }
    println!("documentation: {count} commands are known to helm, kubectl and istioctl");
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What istioctl would install, with the same options: its charts are in the program.
fn would_install(line: &Line) -> TestResult {
    let words = line.words();
    if !words.starts_with(&["istioctl", "install"]) {
        return Ok(());
    }
    let made = said(istioctl()?.args(["manifest", "generate"]).args(&words[2..]))?;
    let objects = Objects::read(&made)?.0.len();
    if objects > 0 { Ok(()) } else { Err("it would install nothing".into()) }
}

/// Options are read before help is given; a wrong word after a group of commands gives the help
/// of the group.
fn known(command: &mut Command, line: &Line) -> TestResult {
    let words = line.words();
    let words = words[1..].iter().filter(|word| **word != "&");
    let output = command.args(words).arg("--help").output()?;
    let help = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    if help.contains(" SUBCOMMAND [options]") || help.contains(" [command]\n") {
        return Err("no such command".into());
    }
    Ok(())
}
