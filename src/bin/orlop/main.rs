//! The command line of orlop: artifacts in OCI layouts on disk.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use args::{flag, layout_path, option, value};
use error::Failure;
use output::{Format, Output};
use progress::{Asked, Mode};

mod archive;
mod args;
mod artifact;
mod attach;
mod attached;
mod backup;
mod bench;
mod blob;
mod checkpoint;
mod closure;
mod complete;
mod confirm;
mod content;
mod copied;
mod cp;
mod dedup;
mod diff;
mod discover;
mod endpoint;
mod entry_path;
mod error;
mod export;
mod fileref;
mod from_file;
mod gc;
mod generate;
mod holder;
mod import;
mod init;
mod inspect;
mod interrupt;
mod inventory;
mod lease;
mod login;
mod loose;
mod ls;
mod manifest;
mod merge;
mod names;
mod near;
mod out_file;
mod output;
mod pack;
mod place;
mod platform;
mod prefix;
mod progress;
mod pull;
mod push;
mod rebuild;
mod reference;
mod remote;
mod remote_ref;
mod repair;
mod repo;
mod resolve;
mod rm;
mod serve;
mod session;
mod source;
mod tag;
mod tar_ref;
mod transfers;
mod unpack;
mod unpack_source;
mod untag;
mod usage;
mod verify;
mod versions;
mod view;
mod yaml;

const ABOUT: &str = "Stores artifacts in OCI layouts: push, attach, discover and pull them";

const REFERENCES: &str = "\
A layout is named as `oci:DIR`, something in it as `oci:DIR:TAG`, `oci:DIR:REPOSITORY:TAG`, `oci:DIR@DIGEST` or \
`oci:DIR:REPOSITORY@DIGEST`. The first colon ends the directory. An existing directory may be given without `oci:`.

\
Something in a registry is named as `HOST[:PORT]/REPOSITORY:TAG` or `HOST[:PORT]/REPOSITORY@DIGEST`.";

const EXIT_CODES: &str = "\
Results go to stdout, everything else to stderr.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 content missing, 5 content damaged, \
6 not allowed by a registry, 7 registry not reached, 8 done in part, 9 refused as unsafe or not proved, 10 different, \
11 no space or quota left, \
129, 130 and 143 stopped by SIGHUP, SIGINT and SIGTERM.";

/// The verbs by what one wants to do. One that is not listed comes last.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Artifacts", &["push", "pull", "attach", "discover", "cp", "backup", "restore"]),
    ("References", &["ls", "repo", "resolve", "tag", "untag", "rm", "inspect"]),
    ("Documents and content", &["manifest", "blob"]),
    ("Layouts", &["init", "gc", "lease", "usage", "verify", "repair", "rebuild", "checkpoint", "dedup"]),
    ("Across a gap", &["inventory", "export", "import", "diff"]),
    ("Registries", &["login", "logout", "serve"]),
];

fn command() -> Command {
    let command = ungrouped();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        grouped(&command)
    );
    command.help_template(template)
}

/// The verbs as the help shows them.
fn grouped(command: &Command) -> String {
    let listed = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let line = |verb: &Command| {
        let aliases: Vec<&str> = verb.get_visible_aliases().collect();
        let aliases =
            if aliases.is_empty() { String::new() } else { format!(" [alias: {}]", aliases.join(", ")) };
        format!(
            "  {:<12}{}{aliases}\n",
            verb.get_name(),
            verb.get_about().map(ToString::to_string).unwrap_or_default()
        )
    };
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(&format!("{heading}:\n"));
        text.extend(names.iter().filter_map(|name| command.find_subcommand(name)).map(line));
        text.push('\n');
    }
    text.push_str("Others:\n");
    text.extend(command.get_subcommands().filter(|verb| !listed(verb.get_name())).map(line));
    text.push_str("  help        Print the help of a verb\n\n");
    text
}

fn ungrouped() -> Command {
    Command::new("orlop")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(format!("{ABOUT}\n\n{REFERENCES}"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            option("format", "text|json|jsonl|tree|table", "How to print results")
                .global(true)
                .default_value("text")
                .value_parser(str::parse::<Format>),
        )
        .arg(flag("quiet", "Print digests only, and no progress").short('q').global(true))
        .arg(
            option("progress", "auto|bar|plain|json|none", "How to show progress on stderr")
                .global(true)
                .hide_default_value(true)
                .default_value("auto")
                .value_parser(str::parse::<Asked>),
        )
        .arg(flag("no-tty", "Show progress in plain lines, even on a terminal").global(true))
        // As oras has them: the reference is DIR[:REF] without `oci:`, or a name in the layout that the second names.
        .arg(flag("oci-layout", "The reference is DIR[:REF]").global(true).hide(true))
        .arg(layout_path("oci-layout-path", "The reference is a name in this layout").global(true).hide(true))
        .subcommands([
            init::command(),
            push::command(),
            pull::command(),
            attach::command(),
            discover::command(),
            resolve::command(),
            tag::command(),
            cp::command(),
            backup::backup_command(),
            backup::restore_command(),
            untag::command(),
            rm::command(),
            inspect::command(),
            ls::command(),
            manifest::command(),
            blob::command(),
            repo::command(),
            verify::command(),
            repair::command(),
            rebuild::command(),
            gc::command(),
            lease::command(),
            usage::command(),
            checkpoint::command(),
            inventory::command(),
            export::command(),
            import::command(),
            diff::command(),
            login::login_command(),
            login::logout_command(),
            dedup::command(),
            serve::command(),
            bench::command(),
            generate::completion_command(),
            generate::man_command(),
        ])
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == complete::VERB) {
        complete::run(std::env::args_os().skip(2));
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == bench::CELL) {
        return bench::run_cell(std::env::args().skip(2));
    }
    let result = match command().try_get_matches_from(std::env::args_os().map(source::argument)) {
        Ok(matches) => run(&matches),
        Err(answer) => return parser_answer(&answer),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(Failure::usage("no verb was given").with_hint("`orlop --help` lists them"));
    };
    let format = value(matches, "format").unwrap_or(Format::Text);
    if format == Format::Tree && verb != "discover" {
        return Err(
            Failure::usage("only discover prints a tree, format=tree").with_hint("use --format text or json")
        );
    }
    if format == Format::Table && !["ls", "usage"].contains(&verb) {
        return Err(Failure::usage("only ls and usage print a table, format=table")
            .with_hint("use --format text or json"));
    }
    let quiet = matches.get_flag("quiet");
    let asked = value(matches, "progress").unwrap_or_default();
    let output = Output::new(format, quiet, Mode::of(asked, quiet, matches.get_flag("no-tty")));
    match verb {
        "init" => init::run(&init::Args::of(matches), &output),
        "push" => push::run(&push::Args::of(matches), &output),
        "pull" => pull::run(&pull::Args::of(matches), &output),
        "attach" => attach::run(&attach::Args::of(matches), &output),
        "discover" => discover::run(&discover::Args::of(matches), &output),
        "resolve" => resolve::run(&resolve::Args::of(matches), &output),
        "cp" => cp::run(&cp::Args::of(matches)?, &output),
        "backup" => backup::backup(matches, &output),
        "restore" => backup::restore(matches, &output),
        "tag" => tag::run(&tag::Args::of(matches), &output),
        "untag" => untag::run(&untag::Args::of(matches), &output),
        "rm" => rm::run(&rm::Args::of(matches), &output),
        "inspect" => inspect::run(&inspect::Args::of(matches), &output),
        "ls" => ls::run(&ls::Args::of(matches), &output),
        "manifest" => manifest::run(matches, &output),
        "blob" => blob::run(matches, &output),
        "repo" => repo::run(matches, &output),
        "verify" => verify::run(&verify::Args::of(matches), &output),
        "repair" => repair::run(&repair::Args::of(matches), &output),
        "rebuild" => rebuild::run(&rebuild::Args::of(matches), &output),
        "usage" => usage::run(&usage::Args::of(matches), &output),
        "checkpoint" => checkpoint::run(&checkpoint::Args::of(matches), &output),
        "inventory" => inventory::run(&inventory::Args::of(matches), &output),
        "export" => export::run(&export::Args::of(matches), &output),
        "import" => import::run(&import::Args::of(matches), &output),
        "diff" => diff::run(&diff::Args::of(matches), &output),
        "login" => login::login(&login::Args::of(matches), &output),
        "logout" => login::logout(&login::Args::of(matches), &output),
        "bench" => bench::run(&bench::Args::of(matches), &output),
        "serve" => serve::run(serve::Args::of(matches), &output),
        "dedup" => dedup::run(&dedup::Args::of(matches)?, &output),
        "gc" => gc::run(&gc::Args::of(matches), &output),
        "lease" => lease::run(matches, &output),
        "completion" => generate::completion(matches, command()),
        "man" => generate::man(matches, command(), &output),
        other => Err(Failure::usage(format!("unknown verb, verb={other}"))),
    }
}

/// Help and version are results; anything else the parser says is a complaint.
fn parser_answer(answer: &clap::Error) -> ExitCode {
    let text = answer.render().to_string();
    if answer.use_stderr() {
        output::stderr(&text);
        return ExitCode::from(error::Exit::Usage as u8);
    }
    match output::stdout(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.exit() as u8),
    }
}
