//! `orlop completion` and `orlop man`: what is made from the declarations of the verbs.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::args::{value, verb};
use crate::error::Failure;
use crate::output::{self, Output};

/// Around the generated function: bash breaks words at colons, which has to be undone for a reference, and replaces only
/// what stands behind the last of them. The generated function offers the placeholders of arguments, which nobody types.
const BASH: &str = r#"
_orlop_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" word option="" cut candidate
    local -a kept=()
    word="${line##*[[:space:]]}"
    if [[ $word == --*=* ]]; then option="${word%%=*}="; fi
    cut="${word%"$2"}"
    COMPREPLY=()
    if [[ ${word#"$option"} == *:* || ${word#"$option"} == oci ]]; then
        while IFS= read -r candidate; do
            if [[ $candidate == *[:/] || ${candidate#*:} != *:* ]]; then compopt -o nospace 2>/dev/null; fi
            candidate="$option$candidate"
            COMPREPLY+=("${candidate#"$cut"}")
        done < <("$1" __complete "${word#"$option"}" 2>/dev/null)
        if [[ ${#COMPREPLY[@]} -gt 0 || $word == *oci:* || $word == *ocidir:* ]]; then return 0; fi
    fi
    _orlop "$@"
    for candidate in "${COMPREPLY[@]}"; do
        if [[ $candidate != [\<\[]* ]]; then kept+=("$candidate"); fi
    done
    COMPREPLY=("${kept[@]}")
}

complete -F _orlop_complete -o bashdefault -o default orlop
"#;

const ZSH_END: &str = "if [ \"$funcstack[1]\" = \"_orlop\" ]; then";

/// Before the last lines, which call the function when the file was loaded by its name.
const ZSH: &str = r#"(( $+functions[_orlop_reference] )) ||
_orlop_reference() {
    local -a found
    found=("${(@f)$(command orlop __complete "${(Q)PREFIX}" 2>/dev/null)}")
    found=(${found:#})
    if (( ! $#found )); then
        _default
    elif [[ ${(Q)PREFIX} == *:*:* ]]; then
        compadd -S '' -- ${(M)found:#*:}
        compadd -- ${found:#*:}
    else
        compadd -S '' -- $found
    fi
}

"#;

const FISH: &str = r#"
function __orlop_references
    command orlop __complete (commandline -ct) 2>/dev/null
end
complete -c orlop -f -n "string match -q -- '*:*' (commandline -ct)" -a '(__orlop_references)'
"#;

pub(crate) fn completion_command() -> Command {
    verb(
        "completion",
        "Print a script that completes verbs, options and references",
        "In bash, zsh and fish the directories behind oci: and the names in a layout are completed too.",
        "orlop completion bash >/etc/bash_completion.d/orlop
  orlop completion zsh >/usr/local/share/zsh/site-functions/_orlop
  orlop completion fish >~/.config/fish/completions/orlop.fish",
    )
    .arg(
        Arg::new("shell")
            .value_name("SHELL")
            .help("The shell")
            .required(true)
            .value_parser(value_parser!(Shell)),
    )
}

pub(crate) fn man_command() -> Command {
    verb(
        "man",
        "Write the manual, a page for each verb",
        "",
        "orlop man /usr/local/share/man/man1
  orlop man pages && man -l pages/orlop-push.1",
    )
    .arg(
        Arg::new("directory")
            .value_name("DIR")
            .help("Where to; it is made if it is not there")
            .required(true)
            .value_parser(value_parser!(PathBuf)),
    )
}

pub(crate) fn completion(matches: &ArgMatches, mut command: Command) -> Result<(), Failure> {
    let Some(shell) = value::<Shell>(matches, "shell") else {
        return Err(Failure::usage("no shell was given"));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "orlop", &mut script);
    let script = String::from_utf8_lossy(&script);
    let script = match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Zsh => zsh(&script),
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.into_owned(),
    };
    output::stdout(&script)
}

/// Completes references, and says in its own way that a colon in the form of a value is no end of it.
fn zsh(script: &str) -> String {
    let line = |line: &str| {
        let Some(spec) = line.strip_suffix(":_default' \\") else { return format!("{line}\n") };
        let spec = match spec.rsplit_once("]:") {
            Some((help, form)) => format!("{help}]:{}", form.replace(':', "\\:")),
            None => spec.into(),
        };
        format!("{spec}:_orlop_reference' \\\n")
    };
    script.lines().map(line).collect::<String>().replace(ZSH_END, &format!("{ZSH}{ZSH_END}"))
}

#[expect(clippy::disallowed_methods, reason = "a directory of the user, no part of a store")]
pub(crate) fn man(matches: &ArgMatches, command: Command, output: &Output) -> Result<(), Failure> {
    let directory: PathBuf = value(matches, "directory").unwrap_or_default();
    std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    clap_mangen::generate_to(command, &directory).map_err(|error| failed(&directory, &error))?;
    output.summary(format!("the manual begins with {}", directory.join("orlop.1").display()));
    Ok(())
}

fn failed(directory: &Path, error: &std::io::Error) -> Failure {
    Failure::io("write the manual", directory, error).with_hint("name a directory that you may write to")
}
