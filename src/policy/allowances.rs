//! `allow` of `[firewall]`, read.

use toml::de::DeValue;

use super::Portless;
use super::diagnostic::Diagnostic;
use super::file::{AllowanceEntry, Entry, Spanned, Traffic};
use super::section::Section;
use super::values::{Reader, Value};

/// For everyone, and for some.
type Allow = (Vec<Spanned<Traffic>>, Vec<AllowanceEntry>);

const EXAMPLE: &str = "[80, \"8000-8010\", \"vrrp\", { ports = [5432], from = [\"10.0.0.0/8\"] }]";

impl Reader {
    pub(super) fn allow(&mut self, value: &Value<'_>) -> Option<Allow> {
        let mut allow = Allow::default();
        for element in self.array(value, EXAMPLE)? {
            match element.get_ref() {
                DeValue::Table(_) => allow.1.extend(self.allowance(element)),
                _ => allow.0.extend(self.traffic(element)),
            }
        }
        Some(allow)
    }

    fn allowance(&mut self, value: &Value<'_>) -> Option<AllowanceEntry> {
        let mut section = Section::new(value.get_ref().as_table()?, "an element of `allow`");
        let traffic = section.entry(self, "ports", |r, v| {
            let list = r.array(v, "ports = [5432, \"vrrp\"]")?;
            Some(
                list.iter()
                    .filter_map(|element| r.traffic(element))
                    .collect::<Vec<_>>(),
            )
        });
        let entry = AllowanceEntry {
            at: value.span(),
            from: section.take(self, "from", Reader::networks),
            interfaces: section.take(self, "interfaces", Reader::interfaces),
            traffic: match traffic {
                Entry::Written(list) => list.value,
                Entry::Wrong => Vec::new(),
                Entry::Missing => {
                    let missing = Diagnostic::new(value.span(), "this allows nothing")
                        .label("without `ports`")
                        .help("write for example `{ ports = [5432], from = [\"10.0.0.0/8\"] }`");
                    self.error(missing);
                    Vec::new()
                }
            },
        };
        section.finish(self);
        Some(entry)
    }

    /// Ports, or a protocol without ports.
    fn traffic(&mut self, value: &Value<'_>) -> Option<Spanned<Traffic>> {
        let protocol = value.get_ref().as_str().and_then(Portless::named);
        let traffic = match protocol {
            Some(protocol) => Traffic::Protocol(protocol),
            None => Traffic::Ports(self.range(value)?),
        };
        Some(Spanned {
            value: traffic,
            at: value.span(),
        })
    }
}
