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
