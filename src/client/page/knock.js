// The page that knocks. What it sends is described in docs/protocol.md.
// The settings are in the page, or in the fragment of its address: no server sees that.
// Lines like the next one begin a part: a page has those that it needs. No quotes of a kind are within one another, and no spaces in
// patterns.
// part all
let settings, addresses, sequences, secret, port, scratch;
const get = name => settings.get(name) || '', blink = /Chrome\//.test(navigator.userAgent);
const list = (text, by, fits) => text.split(by).filter(part => fits.test(part));
const id = name => document.getElementById(name), go = id('go'), say = text => id('said').textContent = text;
const pause = time => new Promise(done => setTimeout(done, time));

// part token
const number = (value, length) => [...Array(length)].map((_, i) => Math.floor(value / 256 ** (length - 1 - i)) % 256);
// part open
// SHA-256 (FIPS 180-4), since a page from http: has no crypto.subtle.
const first = [], rounds = [], turn = (x, by) => x >>> by | x << 32 - by;
for (let n = 2, p; rounds.length < 64; n++) {
  for (p = 2; n % p; p++);
  if (p < n) continue;
  const part = power => n ** power % 1 * 2 ** 32 | 0;
  if (first.length < 8) first.push(part(1 / 2));
  rounds.push(part(1 / 3));
}
const sha256 = text => {
  const all = [...text, 128], w = [];
  while (all.length % 64 != 56) all.push(0);
  all.push(...number(text.length * 8, 8));
  let hash = first;
  for (let at = 0; at < all.length; at += 64) {
    let v = hash;
    for (let i = 0; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2], j = at + 4 * i, [a, b, c, , e, f, g, h] = v;
      w[i] = i < 16 ? all[j] << 24 | all[j + 1] << 16 | all[j + 2] << 8 | all[j + 3]
        : w[i - 16] + w[i - 7] + (turn(x, 7) ^ turn(x, 18) ^ x >>> 3) + (turn(y, 17) ^ turn(y, 19) ^ y >>> 10) | 0;
      const t = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + rounds[i] + w[i] | 0;
      v = [t + (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c) | 0, ...v.slice(0, 7)];
      v[4] = v[4] + t | 0;
    }
    hash = hash.map((x, i) => x + v[i] | 0);
  }
  return hash.flatMap(x => number(x >>> 0, 4));
};
const hmac = (key, text) => {
  const pad = mask => [...Array(64)].map((_, i) => key[i] ^ mask);
  return sha256([...pad(92), ...sha256([...pad(54), ...text])]);
};
// part subtle
// A page under a passphrase has it in any case.
const hmac = async (key, text) => new Uint8Array(await crypto.subtle.sign('HMAC',
  await crypto.subtle.importKey('raw', new Uint8Array(key), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']), new Uint8Array(text)));
// part token
const token = async (key, window, count) => {
  const label = [...'toctoc letters v1'].map(letter => letter.charCodeAt());
  return btoa(String.fromCharCode(...(await hmac(key, [...label, ...number(window, 8), ...number(count, 4)])).slice(0, 12)));
};

// Tokens of this minute, the first one by the quarter of it, and two of the next: each once.
const used = new Set();
const next = async now => {
  const window = Math.floor(now / 60), quarter = now % 60 / 15 | 0;
  for (let n = 0; n < 6; n++) {
    const later = n > 3, one = await token(secret, window + later, later ? n - 4 : (quarter + n) % 4);
    if (!used.has(one)) return used.add(one), one;
  }
};
// A STUN check carries the name of the other side of a connection: that is the token.
const check = async (address, token) => {
  const one = new RTCPeerConnection();
  one.createDataChannel('');
  await one.setLocalDescription(await one.createOffer());
  await one.setRemoteDescription({type: 'answer', sdp: ['v=0', 'o=- 0 0 IN IP4 0.0.0.0', 's=-', 't=0 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', 'a=mid:0', 'a=ice-ufrag:' + token,
    'a=ice-pwd:' + token + token, 'a=fingerprint:sha-256 ' + Array(32).fill('00').join(':'), 'a=setup:passive',
    'a=sctp-port:5000', `a=candidate:1 1 udp 1 ${address} ${port} typ host`, ''].join('\r\n')});
  // The browser repeats it, more and more slowly.
  setTimeout(() => one.close(), 5e3);
};

// part sequence
// One SYN each: whoever waits for an answer sends more. Chromium keeps the socket of a fetch, not that of a WebSocket.
const knock = async (to, gap, socket) => {
  if (socket) {
    const one = new WebSocket('wss://' + to);
    await pause(gap);
    return one.close();
  }
  const stop = new AbortController();
  fetch('https://' + to, {mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal: stop.signal}).catch(() => 0);
  await pause(gap);
  stop.abort();
};
// The number of used scratch sequences is no secret.
let turns = 0, clicks = 0;
const run = async (mine, knocks) => {
  for (const [gap, wait] of [[40, 1400], [100, 1500], [200, 0]]) {
    for (const address of addresses) {
      const host = address.includes(':') ? `[${address}]` : address;
      for (const at of knocks) {
        if (mine != turns) return;
        await knock(host + ':' + at, at == knocks[0] && gap == 40 ? 150 : Math.min(gap, 900 / knocks.length), blink && gap == 40);
      }
    }
    if (gap == 40) knocked();
    await pause(wait);
  }
};

// part all
// A browser may be wrong about being offline: Chromium knows no tunnels. In its first seconds it knows no network at
// all, and sends no token.
const online = () => navigator.onLine === false
  && Promise.race([pause(3e3), new Promise(done => addEventListener('online', done, {once: true}))]);
const outcome = () => say(navigator.onLine === false ? 'Knocked, but this browser says that it is offline.'
  : 'Knocked. Connect now. If that fails, knock again.');
const knocked = () => {
  const host = get('name').match(/^[\w.:-]+$/) && get('name'), ssh = id('ssh');
  outcome();
  ononline = outcome;
  if (!host) return;
  ssh.href = 'ssh://' + (host.includes(':') ? `[${host}]` : host) + (get('door') ? `:${+get('door')}` : '');
  ssh.hidden = false;
};
const left = () => {
  if (!scratch) return;
  const more = sequences.length - clicks;
  id('left').textContent = more > 0 ? `Each sequence opens once. Unused here: ${more} of ${sequences.length}.` : 'All are used.';
  go.disabled = more <= 0;
};
const bytes = name => Uint8Array.from(atob(get(name).replace(/\s/g, '+')), letter => letter.charCodeAt());
const take = text => {
  settings = new URLSearchParams(text);
  addresses = list(get('address'), ',', /^([\d.]+|[\da-f:]*:[\da-f:.]*)$/);
  sequences = list(get('sequences'), ';', /^\d+(,\d+)*$/).map(knocks => knocks.split(','));
  secret = (get('token').match(/^[\da-f]{64}$/) ? get('token').match(/../g) : []).map(pair => parseInt(pair, 16));
  port = +get('port');
  scratch = get('id');
  id('title').textContent = 'Knock' + (get('name') ? ' at ' + get('name') : '');
  id('lock').hidden = !get('sealed');
  if (!get('sealed') && (!addresses.length || !(sequences.length || secret.length && port))) say('There is no key in the address of this page.'), go.disabled = true;
  try { if (scratch) clicks = +localStorage['toctoc ' + scratch] || 0; } catch { }
  left();
  // part code
  // The modules of a QR code, row by row, a bit each.
  const code = bytes('code'), side = Math.sqrt(code.length * 8) | 0;
  if (!side) return;
  id('other').innerHTML = `<summary>To another device</summary><svg viewBox="-4 -4.5 ${side + 8} ${side + 8}"><path d="${
    [...Array(side * side)].map((_, i) => code[i >> 3] << i % 8 & 128 ? 'M' + i % side + ' ' + (i / side | 0) + 'h1' : '').join('')}"/></svg>`;
  id('other').hidden = false;
  // part all
};
// part seal
// A passphrase (PBKDF2) hides the settings (AES-GCM): 16 bytes of salt, 12 of nonce, the rest.
const unseal = async () => {
  const {subtle} = crypto, sealed = bytes('sealed'), salt = sealed.slice(0, 16), iv = sealed.slice(16, 28);
  if (!subtle) return say('A passphrase needs this page from https: or from a file.');
  try {
    const words = await subtle.importKey('raw', new TextEncoder().encode(id('words').value), 'PBKDF2', false, ['deriveKey']);
    const key = await subtle.deriveKey({name: 'PBKDF2', hash: 'SHA-256', salt, iterations: 6e5}, words, {name: 'AES-GCM', length: 256}, false, ['decrypt']);
    take(new TextDecoder().decode(await subtle.decrypt({name: 'AES-GCM', iv}, key, sealed.slice(28))));
    id('words').value = '';
    return true;
  } catch {
    say('That is not the passphrase.');
  }
};
// part all
take(SETTINGS || location.hash.slice(1));
id('words').onkeydown = event => event.key == 'Enter' && go.click();
go.onclick = async () => {
  ononline = null;
  say('Knocking…');
  try {
    // part seal
    if (get('sealed') && !await unseal()) return;
    // part all
    await online();
    // part sequence
    if (sequences.length) {
      const knocks = sequences[scratch ? clicks++ : 0];
      try { if (scratch) localStorage['toctoc ' + scratch] = clicks; } catch { }
      left();
      await run(++turns, knocks);
    }
    // part token
    if (secret.length) {
      for (const address of addresses) {
        const one = await next(Date.now() / 1000);
        if (!one) return say('No token is left. Try again in a minute.');
        await check(address, one);
      }
      knocked();
    }
    // part all
  } catch (error) {
    say('This browser cannot knock: ' + error.message);
  }
};
