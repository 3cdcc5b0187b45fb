//! Commands in a document, with the output that stands beside them.

/// A block of a document, and the mark before it: `<!-- run: server -->`.
pub struct Block {
    pub mark: String,
    pub language: String,
    pub text: String,
}

pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut mark = String::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("<!-- ") {
            mark = rest.trim_end_matches(" -->").to_string();
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                mark: std::mem::take(&mut mark),
                language: language.to_string(),
                text: body.join("\n") + "\n",
            });
        }
    }
    blocks
}

/// A line after `# ` or `$ `, and what follows it.
pub struct Session {
    pub command: String,
    pub output: String,
}

pub fn sessions(text: &str) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in text.lines() {
        let command = line.strip_prefix("# ").or(line.strip_prefix("$ "));
        match (command, sessions.last_mut()) {
            (Some(command), _) => sessions.push(Session {
                command: command.to_string(),
                output: String::new(),
            }),
            (None, Some(session)) => session.output.push_str(&format!("{line}\n")),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    sessions
}
