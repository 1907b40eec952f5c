use clap::{CommandFactory, Parser};
use stoker_domain::view::JobView;
use stoker_domain::{JobSpec, JobState, Timestamp, spec};

use super::*;

const ID: &str = "job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e";

/// A job in that state, with nothing else known of it.
pub(super) fn job(state: JobState) -> JobView {
    let text = "name = \"digits\"\n[data]\ndataset = \"digits@1\"\ntarget = \"label\"\n\
                [model]\nfamily = \"mlp\"\n\
                [train]\nepochs = 1\nbatch_size = 8\nloss = \"cross_entropy\"\n";
    let at = Timestamp::from_millis(1_767_323_045_678);
    JobView {
        id: ID.parse().unwrap(),
        state,
        letting_go: None,
        spec: JobSpec::parse(text, spec::Format::Toml).unwrap(),
        inputs: stoker_domain::job::Inputs::default(),
        replay_of: None,
        attempt: None,
        used: stoker_domain::job::Used::default(),
        progress: None,
        checkpoint: None,
        result: None,
        failure: None,
        engine: None,
        exact: true,
        created_at: at,
        updated_at: at,
        finished_at: None,
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn command_lines_that_are_documented_are_understood() {
    let lines = [
        "job create spec.toml",
        "job create - --wait --timeout 2h --set train.epochs=5 --set a[0].b=x=y",
        "job create spec.toml --idempotency-key nightly --json",
        "job list --state running --project p --tag team:vision --limit 5",
        "--json job get job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e",
        "job cancel job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0f",
        "job cancel job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --checkpoint",
        "job cancel --state queued --tag team:vision --dry-run",
        "job delete --state failed --project p",
        "upload list",
        "project create vision --open",
        "project close vision",
        "member add vision ada@example.org --role admin",
        "member remove vision auth0|5",
        "secret set hook",
        "key create ci --role viewer --project vision --expires-in 24h",
        "key revoke 0123456789abcdef",
        "job explain job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --priority high --pool gpu",
        "pool set gpu --price 2.5 --half-life 24h --min-run-time 5m",
        "pool share gpu acme --weight 2 --devices 8 --devices-max none --jobs-max 50",
        "pool share gpu acme --reset",
        "worker list --pool gpu",
        "worker drain worker-1",
        "worker --pool gpu",
        "audit --action cancel_job --from 2026-01-01T00:00:00Z",
        "usage --by pool",
        "job logs -f job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --server http://x --token t",
        "job events --follow --from 3 job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e",
        "job metrics job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --metric train.loss --from-step 10",
        "job metrics job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --to-step 90 --sample 100",
        "job download job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e weights.safetensors --out d --force",
        "dataset create digits digits.csv.gz --format csv_gz --header no",
        "dataset preview digits@1 --rows 3",
        "dataset get digits@2",
        "plugin create noise@1.2 noise.wasm",
        "token create --subject ci --role developer --expires-in 24h",
        "token revoke abc",
        "login --server https://x --token-stdin --context prod --ca-cert ca.pem",
        "context use prod",
        "completions zsh",
    ];
    for line in lines {
        let words = std::iter::once("stoker").chain(line.split(' '));
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn command_lines_that_make_no_sense_are_refused_with_the_reason() {
    let lines = [
        ("job get 7", "is not a job id"),
        ("job cancel", "required"),
        (
            "job list --state done",
            "possible values: queued, dispatched, running",
        ),
        ("job list --all --limit 3", "cannot be used with"),
        (
            "job create s.toml --set epochs",
            "is not of the form KEY=VALUE",
        ),
        ("job create s.toml --timeout 5m", "--wait"),
        (
            "job wait job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e --timeout soon",
            "is not a duration",
        ),
        ("job list --tag vision", "is not of the form KEY:VALUE"),
        (
            "dataset create d f --header maybe",
            "possible values: auto, yes, no",
        ),
        ("plugin create no/name f", "is not a reference"),
        (
            "token create --subject x --role king",
            "possible values: viewer",
        ),
    ];
    for (line, told) in lines {
        let words = std::iter::once("stoker").chain(line.split(' '));
        let error = Cli::try_parse_from(words)
            .err()
            .map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(told)),
            "{line}: {error:?}"
        );
    }
}

#[test]
fn a_token_on_the_command_line_is_in_no_debug_output() {
    let words = ["stoker", "--token", "t-secret", "job", "list"];
    let cli = Cli::try_parse_from(words).unwrap();
    assert!(!format!("{cli:?}").contains("t-secret"));
}

#[test]
fn every_exit_code_is_in_the_help() {
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 70, 74, 130] {
        let listed = AFTER_HELP
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{code}  ")));
        assert!(listed, "{code}");
    }
}
