// Fetching with a sentence for whatever goes wrong.

/** The server's answer, if it is the file. */
export async function fetchFile(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch {
    signal?.throwIfAborted();
    throw new Error(`${url} could not be fetched: there is no connection, or no such server.`);
  }
  if (response.ok) return response;
  throw new Error(`${url} could not be fetched: the server answered ${response.status}.`);
}

/** A file's bytes; `progress` hears how many of `total` have come. */
export async function fetchBytes(url, { signal, progress, total = null } = {}) {
  const reader = (await fetchFile(url, signal)).body.getReader();
  const parts = [];
  let loaded = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      signal?.throwIfAborted();
      throw new Error(`${url} came only in part: the connection broke after ${loaded} bytes.`);
    });
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    loaded += value.length;
    progress?.({ loaded, total });
  }
}
