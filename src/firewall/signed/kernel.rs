//! The program in the kernel: loaded through `aya`, attached to interfaces (as a link of [`tcx`], or as a filter of clsact), and
//! looked at.

use std::io;
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{Link as _, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use netlink_sys::protocols::NETLINK_ROUTE;
use object::write::{Object, Relocation, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::links::Link;
use super::super::netlink::{find, utf8};
use super::super::netlink_listing::{listing, word};
use super::tcx;
use crate::signed::assembler::Assembly;
use crate::signed::program::Entry;

/// The name of program and filter, and of the map.
pub(super) const NAME: &str = "toctoc";
const KEYS: &str = "toctoc_keys";

/// The time in which the kernel lets go of a link that nobody holds any more.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Before most filters of others: one of theirs may end the judging, and then nothing of ours is asked.
pub(super) const PRIORITY: u16 = 3;

/// A program that the kernel has taken. It goes when this is dropped, unless it was attached.
pub(super) struct Loaded {
    ebpf: Ebpf,
    program: u32,
    map: u32,
}

impl Loaded {
    /// Loads it, with its keys.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn load(program: &Assembly, keys: &[Entry]) -> Result<Loaded, String> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            format!(
                "this kernel does not take the program of signed keys: {what}: {}",
                whole(error)
            )
        };
        // Kernels before 5.11 count maps as locked memory. Where this is not allowed, the load says so.
        let endless = Rlimit {
            current: None,
            maximum: None,
        };
        let _ = setrlimit(Resource::Memlock, endless);
        let elf =
            elf(program, keys.len()).map_err(|error| failed("it cannot be written", &error))?;
        let mut loader = EbpfLoader::new();
        loader
            .btf(None)
            .verifier_log_level(VerifierLogLevel::DISABLE);
        let mut ebpf = loader
            .load(&elf)
            .map_err(|error| failed("no map", &error))?;
        let map = ebpf.map_mut(KEYS).ok_or("the program has no map")?;
        let Map::HashMap(data) = &*map else {
            return Err("the program's map is of another kind".to_string());
        };
        let number = data.info().map_err(|error| failed("no map", &error))?.id();
        let mut entries: HashMap<_, [u8; 4], [u64; 3]> =
            HashMap::try_from(map).map_err(|error| failed("no map", &error))?;
        for key in keys {
            let put = entries.insert(key.id, key.value, 0);
            put.map_err(|error| failed("no key", &error))?;
        }
        let classifier = classifier(&mut ebpf)?;
        classifier
            .load()
            .map_err(|error| failed("BPF is not there or not allowed", &error))?;
        let info = classifier.info();
        let program = info.map_err(|error| failed("no number", &error))?.id();
        Ok(Loaded {
            ebpf,
            program,
            map: number,
        })
    }

    /// The kernel's number of it.
    pub(super) fn id(&self) -> u32 {
        self.program
    }

    /// The kernel's number of its map.
    pub(super) fn map(&self) -> u32 {
        self.map
    }

    /// Puts it at an interface: as a link of tcx where the kernel has that, as a filter of clsact elsewhere. One of ours
    /// that is there gives way without a gap.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn attach(&mut self, link: &Link) -> Result<(), String> {
        let filters = filters(link.index).map_err(|error| error.to_string())?;
        let there: Vec<OurFilter> = filters.into_iter().filter_map(Filter::ours).collect();
        let classifier = classifier(&mut self.ebpf)?;
        if let Some(file) = tcx::file(link)
            && tcx::attach(classifier, link, &file).is_ok()
        {
            return there.into_iter().try_for_each(|other| other.remove(link));
        }
        let mut there = there.into_iter();
        let place = match there.next() {
            Some(old) => {
                let old = old.as_link(link).map_err(|error| error.to_string())?;
                classifier.attach_to_link(old)
            }
            None => {
                // It may be there: then attaching says what is wrong.
                let _ = qdisc_add_clsact(&link.name);
                let options = NlOptions {
                    priority: PRIORITY,
                    ..NlOptions::default()
                };
                let options = TcAttachOptions::Netlink(options);
                classifier.attach_with_options(&link.name, TcAttachType::Ingress, options)
            }
        };
        let place = place.map_err(|error| whole(&error))?;
        // It stays when this process ends.
        mem::forget(classifier.take_link(place).map_err(|error| whole(&error))?);
        // Never more than one.
        for other in there {
            other.remove(link)?;
        }
        Ok(())
    }

    /// Fails where an older program of ours is seen at an interface too.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn is_alone(&self, link: &Link) -> Result<(), String> {
        // A refill has not the right to see it. An apply and a healing have.
        let there = attached(link).unwrap_or_default();
        match there.iter().any(|program| *program != self.program) {
            true => Err(format!(
                "an older program is there too, {}",
                held_elsewhere()
            )),
            false => Ok(()),
        }
    }
}

/// The cause for a program that cannot be taken away, and the way out.
fn held_elsewhere() -> String {
    format!(
        "held by a file that is not seen here: run toctoc where {} is that of the host",
        tcx::FILE_SYSTEM
    )
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, String> {
    let program = ebpf.program_mut(NAME).ok_or("the program is not in it")?;
    program.try_into().map_err(|error| whole(&error))
}

/// An error with its causes.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let more = one.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = one.source();
    }
    text
}

/// A filter of ours at an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OurFilter {
    priority: u16,
    handle: u32,
    program: u32,
}

/// A filter at the ingress of an interface.
enum Filter {
    Ours(OurFilter),
    /// One of another program, in words.
    Other(String),
}

impl Filter {
    fn ours(self) -> Option<OurFilter> {
        match self {
            Filter::Ours(ours) => Some(ours),
            Filter::Other(_) => None,
        }
    }
}

impl OurFilter {
    fn as_link(self, at: &Link) -> io::Result<SchedClassifierLink> {
        let handle = TcHandle::from(self.handle);
        SchedClassifierLink::attached(&at.name, TcAttachType::Ingress, self.priority, handle, None)
    }

    fn remove(self, at: &Link) -> Result<(), String> {
        let link = self.as_link(at).map_err(|error| error.to_string())?;
        link.detach().map_err(|error| whole(&error))
    }
}

/// Takes ours away from an interface.
///
/// # Errors
/// When it is still there: a sentence.
pub(super) fn detach(link: &Link) -> Result<(), String> {
    tcx::detach(link);
    let filters = filters(link.index).map_err(|error| error.to_string())?;
    let mut why = Ok(());
    for one in filters.into_iter().filter_map(Filter::ours) {
        why = why.and(one.remove(link));
    }
    let start = Instant::now();
    let mut there = attached(link);
    while there.as_ref().is_ok_and(|there| !there.is_empty()) && start.elapsed() < A_MOMENT {
        thread::sleep(Duration::from_millis(1));
        there = attached(link);
    }
    match there {
        Ok(programs) if programs.is_empty() => Ok(()),
        Err(error) => Err(format!(
            "whether the program of signed keys is still at {} is not known: {error}",
            link.name
        )),
        Ok(_) => Err(format!(
            "the program of signed keys is still at {}: {}",
            link.name,
            why.err().unwrap_or_else(held_elsewhere)
        )),
    }
}

/// The kernel's numbers of the programs of ours at an interface.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn attached(link: &Link) -> io::Result<Vec<u32>> {
    let linked = tcx::programs(link)?;
    let linked = linked
        .iter()
        .filter(|one| tcx::is_ours(one))
        .map(|one| one.id());
    let filters = filters(link.index)?.into_iter().filter_map(Filter::ours);
    Ok(linked.chain(filters.map(|one| one.program)).collect())
}

/// Programs and filters of others before ours at an interface, in words: each may decide about a packet, and then ours is not
/// asked. Nothing where ours is not there.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn before_ours(link: &Link) -> io::Result<Vec<String>> {
    let in_words = |program: &aya::programs::ProgramInfo| {
        let name = program.name_as_str().unwrap_or_default();
        format!("the BPF program {} (tcx, \"{name}\")", program.id())
    };
    // These are asked before all filters.
    let programs = tcx::programs(link)?;
    let others = programs
        .iter()
        .take_while(|one| !tcx::is_ours(one))
        .map(in_words);
    let others: Vec<String> = others.collect();
    if others.len() < programs.len() {
        return Ok(others);
    }
    let filters = filters(link.index)?;
    if !filters.iter().any(|one| matches!(one, Filter::Ours(_))) {
        return Ok(Vec::new());
    }
    let before = filters.into_iter().map_while(|one| match one {
        Filter::Ours(_) => None,
        Filter::Other(words) => Some(words),
    });
    Ok(others.into_iter().chain(before).collect())
}

/// The filters at the ingress of an interface, in the order in which they are asked (rtnetlink(7), linux/pkt_cls.h).
fn filters(interface: u32) -> io::Result<Vec<Filter>> {
    /// `RTM_GETTFILTER`; `TC_H_CLSACT` with `TC_H_MIN_INGRESS`
    const GET_FILTERS: u16 = 46;
    const INGRESS: u32 = 0xffff_fff2;
    /// `TCA_KIND`, `TCA_OPTIONS`, `TCA_CHAIN`; `TCA_BPF_NAME`, `TCA_BPF_ID`
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const CHAIN: u16 = 11;
    const FILTER_NAME: u16 = 7;
    const PROGRAM: u16 = 11;
    // `struct tcmsg`
    let question: Vec<u8> = [0, interface, 0, INGRESS, 0]
        .iter()
        .flat_map(|number: &u32| number.to_ne_bytes())
        .collect();
    let mut found = Vec::new();
    listing(NETLINK_ROUTE, GET_FILTERS, &question, |message| {
        let body = message.body();
        let one = || {
            let attributes = body.get(20..)?;
            // Other chains are asked only where a filter of this one says so.
            let chain = find(attributes, CHAIN).and_then(|chain| word(chain, 0));
            (chain.unwrap_or(0) == 0).then_some(())?;
            let handle = word(body, 8).filter(|handle| *handle != 0)?;
            let options = find(attributes, OPTIONS)?;
            let kind = find(attributes, KIND).and_then(utf8)?;
            let name = find(options, FILTER_NAME).and_then(utf8);
            let priority = (word(body, 16)? >> 16) as u16;
            let program = find(options, PROGRAM).and_then(|program| word(program, 0));
            Some(match (kind, name, program) {
                ("bpf", Some(NAME), Some(program)) => Filter::Ours(OurFilter {
                    priority,
                    handle,
                    program,
                }),
                (_, name, _) => {
                    let name = name.map_or_else(String::new, |name| format!(", \"{name}\""));
                    Filter::Other(format!(
                        "a filter of tc ({kind}{name}, priority {priority})"
                    ))
                }
            })
        };
        found.extend(one());
    })?;
    Ok(found)
}

/// The number of keys in a map. `None` when there is no such map.
pub(super) fn count(map: u32) -> Option<usize> {
    let data = MapData::from_id(map).ok()?;
    let map = Map::HashMap(data);
    let keys: HashMap<_, [u8; 4], [u64; 3]> = HashMap::try_from(&map).ok()?;
    Some(keys.keys().filter_map(Result::ok).count())
}

/// The file that the loader reads: the program, the map of its keys, and the relocations between them.
fn elf(program: &Assembly, keys: usize) -> object::write::Result<Vec<u8>> {
    /// `BPF_MAP_TYPE_HASH`; `R_BPF_64_64`
    const HASH: u32 = 1;
    const RELOCATION: u32 = 1;
    let code = program.encode();
    let order = match cfg!(target_endian = "big") {
        true => Endianness::Big,
        false => Endianness::Little,
    };
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::Bpf, order);
    let segment = elf.segment_name(StandardSegment::Data).to_vec();
    let section = |elf: &mut Object<'_>, name: &str, kind, data: &[u8]| {
        let section = elf.add_section(segment.clone(), name.as_bytes().to_vec(), kind);
        elf.append_section_data(section, data, 8);
        section
    };
    let symbol = |name: &str, kind, size: usize, section| Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: size as u64,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    };
    // No function is used that asks for the GPL.
    section(&mut elf, "license", SectionKind::Data, b"MIT\0");
    // `struct bpf_map_def`: kind, sizes of key and value, room, flags.
    let room = u32::try_from(keys.max(1)).unwrap_or(u32::MAX);
    let definition: Vec<u8> = [HASH, 4, Entry::LENGTH, room, 0]
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    let maps = section(&mut elf, "maps", SectionKind::Data, &definition);
    let map = elf.add_symbol(symbol(KEYS, SymbolKind::Data, definition.len(), maps));
    let text = section(&mut elf, "classifier", SectionKind::Text, &code.bytes);
    elf.add_symbol(symbol(NAME, SymbolKind::Text, code.bytes.len(), text));
    for offset in code.maps {
        elf.add_relocation(
            text,
            Relocation {
                offset: offset as u64,
                symbol: map,
                addend: 0,
                flags: RelocationFlags::Elf { r_type: RELOCATION },
            },
        )?;
    }
    elf.write()
}
