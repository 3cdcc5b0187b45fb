//! Statements of a shell script. Words keep their quotes and dollar signs: [`super::run`] expands them.

/// A statement and what belongs to it.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    Simple(Simple),
    /// `for NAME in WORDS`; without `in`, over the arguments.
    For {
        name: String,
        words: Vec<String>,
        body: Vec<Statement>,
    },
    /// `for ((header))`
    Count {
        header: String,
        body: Vec<Statement>,
    },
    While {
        condition: Vec<Statement>,
        body: Vec<Statement>,
        line: usize,
    },
    /// `if` and its `elif`s; `else` has no condition.
    If(Vec<(Vec<Statement>, Vec<Statement>)>),
    /// All branches of a `case`, or a group.
    Group(Vec<Statement>),
    Function {
        name: String,
        body: Vec<Statement>,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Simple {
    /// As written.
    pub words: Vec<String>,
    pub input: Option<Input>,
    pub line: usize,
}

/// The text after `<<EOF`; literal when the end mark is quoted.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub text: String,
    pub literal: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `;`, a line's end, `|`, `&`
    End,
    /// `||`
    Or,
    /// `&&`
    And,
    /// `;;` and its like
    Branch,
    Open,
    Close,
    Input {
        text: String,
        literal: bool,
    },
}

/// Deeper than anybody writes.
const DEEPEST: usize = 40;

pub(super) fn parse(text: &str) -> Vec<Statement> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
        depth: 0,
    };
    let mut statements = Vec::new();
    while parser.at < parser.tokens.len() {
        let before = parser.at;
        statements.extend(parser.list(&[]));
        // A stray end (`done`, `)`) is passed over.
        parser.at = parser.at.max(before + 1);
    }
    statements
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

/// Words that end a list of statements.
const ENDS: [&str; 8] = ["done", "fi", "esac", "then", "else", "elif", "do", "}"];

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, line)| *line)
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Steps over this word.
    fn take(&mut self, word: &str) -> bool {
        let is = self.word() == Some(word);
        self.at += usize::from(is);
        is
    }

    fn skip_ends(&mut self) {
        while matches!(self.peek(), Some(Token::End | Token::And | Token::Or)) {
            self.at += 1;
        }
    }

    /// Statements up to one of `until`, or to a word that ends any list, which stays.
    fn list(&mut self, until: &[&str]) -> Vec<Statement> {
        let mut statements = Vec::new();
        if self.depth >= DEEPEST {
            return statements;
        }
        self.depth += 1;
        loop {
            self.skip_ends();
            match self.peek() {
                None | Some(Token::Close | Token::Branch) => break,
                Some(Token::Word(word))
                    if until.contains(&word.as_str()) || ENDS.contains(&word.as_str()) =>
                {
                    break;
                }
                _ => {}
            }
            let before = self.at;
            let statement = self.statement();
            statements.extend(statement.map(|first| self.guarded(first)));
            self.alternatives(&mut statements);
            if self.at == before {
                self.at += 1;
            }
        }
        self.depth -= 1;
        statements
    }

    /// The statements behind each `||`: whether they run is not known.
    fn alternatives(&mut self, statements: &mut Vec<Statement>) {
        while self.peek() == Some(&Token::Or) {
            self.skip_ends();
            let before = self.at;
            let ends = |word: &str| ENDS.contains(&word);
            if self.peek().is_none() || self.word().is_some_and(ends) {
                return;
            }
            let other = self.statement();
            statements.extend(other.map(|other| Statement::Group(vec![other])));
            if self.at == before {
                return;
            }
        }
    }

    /// A test and what stands behind its `&&`: `[ $n -gt 1 ] && command`.
    fn guarded(&mut self, first: Statement) -> Statement {
        let is_test = match &first {
            Statement::Simple(simple) => simple
                .words
                .first()
                .is_some_and(|word| matches!(word.as_str(), "[" | "[[" | "test")),
            _ => false,
        };
        if !is_test || self.peek() != Some(&Token::And) {
            return first;
        }
        self.at += 1;
        while self.peek() == Some(&Token::End) {
            self.at += 1;
        }
        let then = self.statement();
        Statement::If(vec![(vec![first], then.into_iter().collect())])
    }

    fn statement(&mut self) -> Option<Statement> {
        let line = self.line();
        if self.peek() == Some(&Token::Open) {
            self.at += 1;
            let body = self.list(&[]);
            self.at += usize::from(self.peek() == Some(&Token::Close));
            return Some(Statement::Group(body));
        }
        match self.word() {
            Some("for" | "select") => Some(self.for_loop()),
            Some("while" | "until") => {
                self.at += 1;
                let condition = self.list(&["do"]);
                Some(Statement::While {
                    condition,
                    body: self.body(),
                    line,
                })
            }
            Some("if") => Some(self.branches()),
            Some("case") => Some(self.case()),
            Some("{") => {
                self.at += 1;
                let body = self.list(&["}"]);
                self.take("}");
                Some(Statement::Group(body))
            }
            Some("function") => {
                self.at += 1;
                let name = self.word().unwrap_or_default().to_string();
                self.at += 1;
                Some(self.function(name))
            }
            Some(name) => {
                let next = self.tokens.get(self.at + 1).map(|(token, _)| token);
                let after = self.tokens.get(self.at + 2).map(|(token, _)| token);
                if next == Some(&Token::Open) && after == Some(&Token::Close) {
                    let name = name.to_string();
                    self.at += 1;
                    return Some(self.function(name));
                }
                Some(self.simple())
            }
            None => Some(self.simple()),
        }
    }

    fn function(&mut self, name: String) -> Statement {
        while matches!(
            self.peek(),
            Some(Token::Open | Token::Close | Token::End | Token::And | Token::Or)
        ) {
            self.at += 1;
        }
        self.take("{");
        let body = self.list(&["}"]);
        self.take("}");
        Statement::Function { name, body }
    }

    fn body(&mut self) -> Vec<Statement> {
        self.skip_ends();
        self.take("do");
        let body = self.list(&["done"]);
        self.take("done");
        body
    }

    fn for_loop(&mut self) -> Statement {
        self.at += 1;
        let header = self.word().unwrap_or_default().to_string();
        self.at += 1;
        if let Some(inside) = header.strip_prefix("((") {
            return Statement::Count {
                header: inside.trim_end_matches(')').to_string(),
                body: self.body(),
            };
        }
        let mut words = Vec::new();
        if self.take("in") {
            while let Some(word) = self.word() {
                words.push(word.to_string());
                self.at += 1;
            }
        } else {
            words.push("\"$@\"".to_string());
        }
        Statement::For {
            name: header,
            words,
            body: self.body(),
        }
    }

    fn branches(&mut self) -> Statement {
        let mut branches = Vec::new();
        loop {
            self.at += 1;
            let condition = self.list(&["then"]);
            self.take("then");
            branches.push((condition, self.list(&["elif", "else", "fi"])));
            if self.word() != Some("elif") {
                break;
            }
        }
        if self.take("else") {
            branches.push((Vec::new(), self.list(&["fi"])));
        }
        self.take("fi");
        Statement::If(branches)
    }

    fn case(&mut self) -> Statement {
        while self.word().is_some_and(|word| word != "in") {
            self.at += 1;
        }
        self.take("in");
        let mut all = Vec::new();
        loop {
            while matches!(self.peek(), Some(Token::End | Token::Or | Token::Branch)) {
                self.at += 1;
            }
            if self.peek().is_none() || self.take("esac") {
                break;
            }
            // The pattern, up to its parenthesis.
            while !matches!(self.peek(), None | Some(Token::Close)) {
                self.at += 1;
            }
            self.at += 1;
            let before = self.at;
            all.extend(self.list(&["esac"]));
            if self.at == before && !matches!(self.peek(), Some(Token::Branch)) {
                if self.take("esac") {
                    break;
                }
                self.at += 1;
            }
        }
        Statement::Group(all)
    }

    fn simple(&mut self) -> Statement {
        let mut simple = Simple {
            line: self.line(),
            ..Simple::default()
        };
        loop {
            match self.peek() {
                Some(Token::Word(word)) => simple.words.push(word.clone()),
                Some(Token::Input { text, literal }) => {
                    simple.input = Some(Input {
                        text: text.clone(),
                        literal: *literal,
                    });
                }
                _ => return Statement::Simple(simple),
            }
            self.at += 1;
        }
    }
}

/// The tokens of a text, each with its line.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
        line: 1,
        marks: Vec::new(),
        tokens: Vec::new(),
    };
    while reader.token() {}
    reader.tokens
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    /// End marks of `<<`, whose text begins at the next line.
    marks: Vec<(String, bool)>,
    tokens: Vec<(Token, usize)>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(found == '\n');
        Some(found)
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    /// Reads one token; false at the end.
    fn token(&mut self) -> bool {
        let Some(first) = self.peek(0) else {
            return false;
        };
        match first {
            ' ' | '\t' | '\r' => {
                self.next();
            }
            '\\' if self.peek(1) == Some('\n') => {
                self.next();
                self.next();
            }
            '\\' if self.peek(1) == Some('\r') && self.peek(2) == Some('\n') => {
                self.next();
                self.next();
                self.next();
            }
            '\n' => {
                self.push(Token::End);
                self.next();
                self.inputs();
            }
            '#' => {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.next();
                }
            }
            ';' => {
                self.next();
                let double = self.peek(0) == Some(';');
                if double {
                    self.next();
                }
                self.push(if double { Token::Branch } else { Token::End });
            }
            '&' if self.peek(1) == Some('>') => {
                self.next();
                self.redirection();
            }
            '&' if self.peek(1) == Some('&') => {
                self.next();
                self.next();
                self.push(Token::And);
            }
            '|' if self.peek(1) == Some('|') => {
                self.next();
                self.next();
                self.push(Token::Or);
            }
            '&' | '|' => {
                self.next();
                self.push(Token::End);
            }
            '(' if self.peek(1) == Some('(') => {
                let word = self.word();
                self.push(Token::Word(word));
            }
            '(' => {
                self.next();
                self.push(Token::Open);
            }
            ')' => {
                self.next();
                self.push(Token::Close);
            }
            '<' | '>' => self.redirection(),
            _ => {
                let line = self.line;
                let word = self.word();
                let number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
                if number && matches!(self.peek(0), Some('<' | '>')) {
                    self.redirection();
                } else {
                    self.tokens.push((Token::Word(word), line));
                }
            }
        }
        true
    }

    /// `>file`, `2>&1`, `<<EOF`: what is behind it is no argument.
    fn redirection(&mut self) {
        let mut sign = String::new();
        while let Some(c @ ('<' | '>' | '&' | '|' | '-')) = self.peek(0) {
            if c == '-' && sign != "<<" {
                break;
            }
            sign.push(c);
            self.next();
        }
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.next();
        }
        let target = self.word();
        match sign.as_str() {
            "<<" | "<<-" => {
                let literal = target.contains(['\'', '"', '\\']);
                let mark = target.replace(['\'', '"', '\\'], "");
                self.marks.push((mark, literal));
            }
            "<<<" => self.push(Token::Input {
                text: target,
                literal: false,
            }),
            _ => {}
        }
    }

    /// The texts of the `<<` of the line that has just ended. They belong to the command before its end.
    fn inputs(&mut self) {
        for (mark, literal) in std::mem::take(&mut self.marks) {
            let mut text = String::new();
            while self.at < self.chars.len() {
                let mut line = String::new();
                while let Some(c) = self.next() {
                    if c == '\n' {
                        break;
                    }
                    line.push(c);
                }
                if line.trim() == mark {
                    break;
                }
                text.push_str(&line);
                text.push('\n');
            }
            let place = self.tokens.len().saturating_sub(1);
            let line = self.line;
            self.tokens
                .insert(place, (Token::Input { text, literal }, line));
        }
    }

    /// A word with its quotes, dollar signs and parentheses.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | ')' => break,
                '(' if word.is_empty() => {
                    self.nested('(', ')', &mut word);
                    break;
                }
                '(' if word.ends_with('=') || word.ends_with('$') => {
                    self.nested('(', ')', &mut word);
                }
                '(' => break,
                '{' if word.ends_with('$') => self.nested('{', '}', &mut word),
                '\'' | '"' | '`' => self.quoted(c, &mut word),
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(escaped) => {
                            word.push('\\');
                            word.push(escaped);
                        }
                    }
                }
                c => {
                    word.push(c);
                    self.next();
                }
            }
        }
        word
    }

    fn quoted(&mut self, quote: char, word: &mut String) {
        word.push(quote);
        self.next();
        while let Some(c) = self.next() {
            word.push(c);
            if c == quote {
                break;
            }
            if c == '\\'
                && quote != '\''
                && let Some(escaped) = self.next()
            {
                word.push(escaped);
            }
        }
    }

    /// From an opening sign to the one that closes it.
    fn nested(&mut self, open: char, close: char, word: &mut String) {
        let mut depth = 0usize;
        while let Some(c) = self.peek(0) {
            match c {
                '\'' | '"' => {
                    self.quoted(c, word);
                    continue;
                }
                '#' if word.ends_with(char::is_whitespace) => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.next();
                    }
                    continue;
                }
                c if c == open => depth += 1,
                c if c == close => depth = depth.saturating_sub(1),
                _ => {}
            }
            word.push(c);
            self.next();
            if depth == 0 {
                break;
            }
        }
    }
}
