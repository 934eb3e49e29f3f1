use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    table::{Group, SETTINGS, Setting},
    *,
};

fn load_env(values: &[(&str, &str)]) -> Result<Effective, Refused> {
    let values: BTreeMap<_, _> = values.iter().copied().collect();
    load(None, |name| values.get(name).map(|&value| value.to_owned()))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn lines(refused: &Refused) -> Vec<String> {
    refused.to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn names_are_unique_and_defaults_read_back() {
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len());
    let mut settings = Settings::default();
    for setting in SETTINGS {
        let value = (setting.get)(&settings);
        assert!((setting.set)(&mut settings, &value).is_some(), "{}", setting.name);
    }
    assert_eq!(settings, Settings::default());
}

/// The doc comments of the policy name the variable of each of its fields.
#[test]
fn every_setting_of_the_policy_is_in_the_table() {
    let source = include_str!("../../../stornx-core/src/policy.rs");
    let documented: BTreeSet<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// `"))
        .filter_map(|rest| rest.split('`').next())
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(documented.len() > 40, "the scan finds the names: {documented:?}");
    let of_daemon = |setting: &&Setting| {
        matches!(
            setting.group,
            Group::Daemon | Group::History | Group::Kubernetes | Group::Webhook | Group::Prometheus
        )
    };
    let listed: BTreeSet<_> =
        SETTINGS.iter().filter(|one| !of_daemon(one)).map(|setting| setting.name).collect();
    let expected: BTreeSet<_> =
        documented.into_iter().filter(|name| *name != "NAMESPACES").collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let file = file("BALANCER_RESERVE: 5\nFT_MAX_ZONES: 2\nNAMESPACES: [shop, bank]\n");
    let effective =
        load(Some(file.path()), |name| (name == "FT_MAX_ZONES").then(|| "4".to_owned())).unwrap();
    let policy = &effective.settings.policy;
    assert!((policy.balancer.reserve.get() - 5.0).abs() < 1e-12);
    assert_eq!(policy.fault_tolerance.max_zones, 4);
    assert_eq!(policy.namespaces.len(), 2);
    assert_eq!(effective.origin("FT_MAX_ZONES"), Origin::Environment);
    assert!(matches!(effective.origin("BALANCER_RESERVE"), Origin::File { line: 1, .. }));
    assert_eq!(effective.origin("FT_MAX_SKEW"), Origin::Default);
}

#[test]
fn every_problem_is_listed_with_value_source_and_rule() {
    let file = file("# ours\nBALANCER_EPSILON: 0\nBALANCER_MIN_DELTAS: 3\nDRY_RUN: maybe\n");
    let environment = BTreeMap::from([
        ("METRICS_LOWER_THRESHOLD", "80"),
        ("CRONJOB_EXPRESSION", "often"),
        ("SCALER_MAX_STEP", "-1"),
    ]);
    let refused =
        load(Some(file.path()), |name| environment.get(name).map(|&v| v.to_owned())).unwrap_err();
    let path = file.path().display();
    assert_eq!(refused.to_string().lines().next(), Some("6 settings are not allowed:"));
    assert_eq!(
        lines(&refused),
        [
            format!(
                "BALANCER_MIN_DELTAS ({path}:3): no such setting; did you mean BALANCER_MIN_DELTA?"
            ),
            format!("DRY_RUN = \"maybe\" ({path}:4): allowed is true or false"),
            "CRONJOB_EXPRESSION = \"often\" (environment): allowed is a cron expression of 5 fields, or 6 with seconds first, that comes due".to_owned(),
            "SCALER_MAX_STEP = \"-1\" (environment): allowed is a whole number, at least 1".to_owned(),
            "METRICS_UPPER_THRESHOLD = \"70\" (default): allowed is above METRICS_LOWER_THRESHOLD and at most 100, where METRICS_LOWER_THRESHOLD = \"80\" (environment)".to_owned(),
            format!("BALANCER_EPSILON = \"0\" ({path}:2): allowed is 1 to 20: weights are whole numbers"),
        ]
    );
}

#[test]
fn a_file_that_is_no_mapping_is_refused_with_its_line() {
    for (text, place) in [("- a\n- b\n", ":1"), ("A: 1\nA: 2\n", ":2"), ("A: {b: c}\n", ":1")] {
        let refused = file::parse("s.yaml", text).err().unwrap().to_string();
        assert!(refused.starts_with(&format!("settings file s.yaml{place}: ")), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    let missing = load(Some(Path::new("/nowhere/s.yaml")), |_| None).unwrap_err();
    assert!(missing.to_string().starts_with("settings file /nowhere/s.yaml: "), "{missing}");
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "# nothing\n", "---\n"] {
        assert_eq!(file::parse("s.yaml", text).unwrap().len(), 0, "{text:?}");
    }
}

#[test]
fn what_is_shown_as_yaml_reads_back() {
    let given = [("NAMESPACES", "shop,bank"), ("MOVE_SLOW_FACTOR", "2.5"), ("APP_PORT", "8080")];
    let effective = load_env(&given).unwrap();
    let file = file(&as_yaml(&effective));
    let again = load(Some(file.path()), |_| None).unwrap();
    assert_eq!(again.settings, effective.settings);
}

#[test]
fn recorded_snapshots_keep_their_own_namespaces_unless_some_are_given() {
    assert!(load_env(&[]).unwrap().policy_for_recorded().namespaces.is_empty());
    let given = load_env(&[("NAMESPACES", "default")]).unwrap().policy_for_recorded();
    assert_eq!(given.namespaces.len(), 1);
}

proptest! {
    /// Whatever the environment holds: either settings that the policy allows, or an
    /// error that names each setting that was refused.
    #[test]
    fn any_text_is_a_value_or_a_named_problem(
        index in 0..SETTINGS.len(),
        text in prop_oneof![any::<String>(), "[-+]?[0-9]{1,12}(\\.[0-9]{1,3})?", "[a-z*, ]{0,12}"],
    ) {
        let name = SETTINGS[index].name;
        match load_env(&[(name, &text)]) {
            Ok(effective) => prop_assert_eq!(effective.settings.policy.problems(), vec![]),
            Err(refused) => prop_assert!(
                lines(&refused).iter().any(|line| line.contains(name)),
                "{}", refused
            ),
        }
    }

    /// Whatever a file holds: values, or an error that names the file.
    #[test]
    fn any_file_is_read_or_refused(text in "([A-Z_]{1,8}: )?[ -~\n]{0,40}") {
        if let Err(refused) = file::parse("s.yaml", &text) {
            prop_assert!(refused.to_string().starts_with("settings file s.yaml"), "{}", refused);
        }
    }
}
