//! The commands that a shell would run, as far as the text alone says it.
//!
//! [`commands`] reads a script in two steps: [`parse`] makes statements of the text, [`run`] takes variables,
//! arrays, loops and functions apart. Nothing is executed, no file is read. A variable that the text does not
//! set stays as it is written (`$PORT`), so that a message can name it. All branches of a condition that
//! cannot be decided are read.

mod arithmetic;
mod expand;
mod parse;
mod run;

/// A simple command with its words, after all expansions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShellCommand {
    pub words: Vec<String>,
    /// The text that the command reads (`<<EOF`).
    pub input: Option<String>,
    /// The line it stands at, from 1.
    pub line: usize,
    /// `true` where it stands outside of loops, functions and branches, and is run whatever else is.
    pub certain: bool,
}

impl ShellCommand {
    /// The name of the program, without its directory.
    pub fn program(&self) -> &str {
        let first = self.words.first().map_or("", String::as_str);
        first.rsplit('/').next().unwrap_or(first)
    }
}

/// The commands of a script and what could not be followed.
#[derive(Debug, Default)]
pub(super) struct Commands {
    pub commands: Vec<ShellCommand>,
    pub remarks: Vec<String>,
    /// The arrays that the script sets, with the line of each.
    pub arrays: Vec<Array>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub name: String,
    pub words: Vec<String>,
}

pub(super) fn commands(text: &str) -> Commands {
    run::run(&parse::parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let commands = commands(text).commands;
        let joined = commands.iter().map(|command| command.words.join(" "));
        joined.collect()
    }

    #[test]
    fn commands_are_those_of_a_shell() {
        for (text, expected) in [
            ("a b # c", &["a b"][..]),
            ("a 'b # c' d", &["a b # c d"]),
            ("a b#c", &["a b#c"]),
            ("a; b && c || d | e & f", &["a", "b", "c", "d", "e", "f"]),
            ("a \\\n b\nc", &["a b", "c"]),
            ("(a; b)", &["a", "b"]),
            ("{ a; b; }", &["a", "b"]),
            ("x=1 y='2 3'\na $x ${y} \"$y\" '$x'", &["a 1 2 3 2 3 $x"]),
            ("a $unknown ${other}", &["a $unknown ${other}"]),
            ("a ${unknown:-5}", &["a 5"]),
            ("a >/dev/null 2>&1 b", &["a b"]),
            ("a &> /dev/null; b", &["a", "b"]),
            (
                "for x in 1 2 3; do a $x; done; b",
                &["a 1", "a 2", "a 3", "b"],
            ),
            ("for x in $(seq 2 3); do a $x; done", &["a 2", "a 3"]),
            (
                "for x in {4..5} {7,9}; do a $x; done",
                &["a 4", "a 5", "a 7", "a 9"],
            ),
            ("K=(4 5 6)\na ${K[1]} ${#K[*]} ${K[@]}", &["a 5 3 4 5 6"]),
            (
                "K=(4 5 6); for ((i=${#K[*]}; i>1; i--)); do a ${K[i-1]} $((i-1)); done",
                &["a 6 2", "a 5 1"],
            ),
            (
                "for i in 0 1; do for j in 2 3; do a $i$j; done; done",
                &["a 02", "a 03", "a 12", "a 13"],
            ),
            (
                "i=0; while [ $i -lt 2 ]; do a $i; i=$((i+1)); done",
                &["a 0", "a 1"],
            ),
            ("if [ -x /bin/x ]; then a; else b; fi", &["a", "b"]),
            (
                "if [ 1 = 2 ]; then a; elif [ 1 = 1 ]; then b; else c; fi",
                &["b"],
            ),
            (
                "case $1 in start) a;; stop|end) b;; esac; c",
                &["a", "b", "c"],
            ),
            ("f() { a $1; }; f 5; f 6", &["a 5", "a 6"]),
            ("function f { a \"$@\"; }\nf 5 6", &["a 5 6"]),
            (
                "IPT=$(which iptables); $IPT x; I=`command -v nft`; $I y",
                &["iptables x", "nft y"],
            ),
            ("sudo -n a b; exec c; /usr/bin/env d", &["a b", "c", "d"]),
            (
                "sudo -u root a; nice -n 5 b; timeout -k 2 5 c d; flock /run/x e; env -u P Q=1 f; sudo -- g; exec",
                &["a", "b", "c d", "e", "f", "g"],
            ),
            ("sh -c 'a; b'; eval \"c d\"", &["a", "b", "c d"]),
            ("p=1; p=$p,2; a $p", &["a 1,2"]),
            (
                "x=; if [ -z \"$x\" ]; then a; else b; fi; [ -n \"$x\" ] && c; [ -z \"$x\" ] && d",
                &["a", "d"],
            ),
            ("let i=1+1; a $i; let 'i = i * 3'; a $i", &["a 2", "a 6"]),
            (
                "i=1; i=`expr $i + 1`; a $i; i=$(expr $i \\* 2); a $i",
                &["a 2", "a 4"],
            ),
            ("set -- 5 6; a $1 $2 $#; shift; a $1", &["a 5 6 2", "a 6"]),
            ("x=y; a ${x:+-n $x} ${none:+z}", &["a -n y"]),
            (
                "k=443/tcp; a ${k%/*} ${k#*/} ${k##*/} ${k%%/*}",
                &["a 443 tcp tcp 443"],
            ),
            (
                "P=1,2; for p in $(echo $P | tr ',' ' '); do a $p; done",
                &["a 1", "a 2"],
            ),
            ("P=1,2; IFS=,; for p in $P; do a $p; done", &["a 1", "a 2"]),
            ("K=(1); K+=(2 3); a ${#K[@]} ${!K[@]}", &["a 3 0 1 2"]),
            (
                "declare -a K=(\"1\" '2'); readonly J=( 3 ); a ${K[1]} ${J[0]}",
                &["a 2 3"],
            ),
        ] {
            assert_eq!(lines(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_command_reads_stays_with_it() {
        let found = commands("P=5\nr -n <<EOF\n-A x $P\nCOMMIT\nEOF\nb").commands;
        assert_eq!(found[0].input.as_deref(), Some("-A x 5\nCOMMIT\n"));
        assert_eq!(found[1].words, ["b"]);
        assert_eq!(found[1].line, 6);
    }

    #[test]
    fn loops_without_end_end() {
        for text in [
            "while true; do a; done",
            "for ((;;)); do a; done",
            "f() { f; f; }; f",
            "x=a; for i in {1..9}; do x=$x$x$x$x$x$x$x$x; done; b",
            "for a in {1..999}; do for b in {1..999}; do for c in {1..999}; do x; done; done; done",
            "eval 'eval \"$0\"'",
        ] {
            assert!(commands(text).commands.len() < 50_000, "{text}");
        }
        let deep = "(".repeat(100_000);
        lines(&deep);
        let deep = "$((".repeat(50_000);
        lines(&format!("a {deep}"));
        lines(&format!("a {}", "${a:-".repeat(50_000)));
        lines(&format!("a $(({}1", "(".repeat(50_000)));
    }
}
