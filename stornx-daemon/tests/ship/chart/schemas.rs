//! The objects of the chart against the schemas of Kubernetes, and the chart against Helm's
//! own linter.

use std::path::Path;

use stornx_testbed::harness::Test;

use crate::{
    Failure,
    support::TestResult,
    tools::{MINORS, chart, helm, kubeconform, rendered, said},
};

/// Between them every template is rendered.
const VALUES: [&[&str]; 4] = [
    &[],
    &["--set", "config.dryRun=false"],
    &["-f", "deploy/helm/stornx/values-development.yaml"],
    &[
        "-f",
        "deploy/helm/stornx/values-production.yaml",
        "--set",
        "config.dryRun=false,config.namespaces={a,b},webhook.certificates=cert-manager",
        "--set",
        "serviceMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true",
        "--set",
        "prometheusSecret=prometheus,webhook.objectSelector.matchLabels.a=b",
    ],
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("chart_lint", || async { lint() }),
        Test::plain("chart_schemas_of_kubernetes", || async { conform() }),
    ]
}

fn lint() -> TestResult {
    for values in VALUES {
        let mut command = helm()?;
        said(command.args(["lint", "--strict"]).arg(chart()).args(values))?;
    }
    Ok(())
}

fn conform() -> TestResult {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-rendered.yaml");
    let (mut objects, judge) = (0, |minor: &str, text: &str| -> Result<String, Failure> {
        std::fs::write(&file, text)?;
        kubeconform(minor, &file)
    });
    let mut texts = Vec::new();
    for values in VALUES {
        texts.push(rendered(values)?);
    }
    // A schema that accepts anything would prove nothing.
    let wrong = texts[0].replace("terminationGracePeriodSeconds", "terminationPeriod");
    for minor in MINORS {
        for text in &texts {
            let summary = judge(minor, text).map_err(|error| format!("{minor}: {error}"))?;
            objects += text.matches("\nkind: ").count();
            if !summary.contains("Invalid: 0, Errors: 0") {
                return Err(format!("{minor}: {summary}").into());
            }
        }
        if judge(minor, &wrong).is_ok() {
            return Err(format!("{minor}: a field that does not exist is accepted").into());
        }
    }
    println!("chart: {objects} objects are valid, for {MINORS:?}");
    Ok(())
}
