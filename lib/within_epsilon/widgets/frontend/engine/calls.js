// Calls to whoever has the network, by any line: { send(message), close() } whose other end calls
// line.hear(message), and line.fail(reason) when it has gone. A worker is at the end of one, a
// notebook's kernel of another. worker.js says what the messages are.

/** The interface of an engine over calls, and the facts that came with it. */
export function makeEngine(call, facts) {
  const attack = (name) => (image, label, { signal, progress, ...options }) =>
    call("attack", { name, image, label, options }, { signal, progress });
  return {
    ...facts,
    predict: (image, { label, ...rest } = {}) => call("predict", { image, label }, rest),
    gradient: (image, label, rest = {}) => call("gradient", { image, label }, rest),
    fgsm: attack("fgsm"),
    pgd: attack("pgd"),
    noise: attack("noise"),
    train: (options, rest = {}) => call("train", { options }, rest),
    weights: () => call("weights", {}),
    closed: () => call.closed(),
    close: () => call.close("The engine was closed."),
  };
}

/** Calls over a line as promises, with progress and cancellation. */
export function makeCalls(line) {
  const waiting = new Map();
  let last = 0;
  let closed = "";
  const call = (task, request, { signal, progress } = {}) => new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    if (closed) throw new Error(closed);
    const id = ++last;
    const cancel = () => {
      line.send({ cancel: id });
      finish(id)?.reject(signal.reason);
    };
    signal?.addEventListener("abort", cancel);
    const forget = () => signal?.removeEventListener("abort", cancel);
    waiting.set(id, { resolve, reject, progress, forget });
    line.send({ id, task, ...request });
  });
  const finish = (id) => {
    const one = waiting.get(id);
    waiting.delete(id);
    one?.forget();
    return one;
  };
  line.hear = ({ id, progress, result, error }) => {
    if (progress) waiting.get(id)?.progress?.(progress);
    else if (error !== undefined) finish(id)?.reject(new Error(error));
    else finish(id)?.resolve(result);
  };
  call.closed = () => closed !== "";
  call.close = (reason) => {
    closed = reason;
    line.close();
    for (const id of [...waiting.keys()]) {
      line.send({ cancel: id });
      finish(id).reject(new Error(reason));
    }
  };
  line.fail = (reason) => call.close(`The engine stopped: ${reason}`);
  return call;
}

/** Let calls of `task` follow each other. Of those that come while one runs only the latest is run,
 * when that one is done; the others give undefined. */
export function latestWins(task) {
  let next = null;
  let busy = false;
  const work = async () => {
    busy = true;
    while (next) {
      const { items, resolve, reject } = next;
      next = null;
      await (async () => task(...items))().then(resolve, reject);
    }
    busy = false;
  };
  return (...items) => new Promise((resolve, reject) => {
    next?.resolve();
    next = { items, resolve, reject };
    if (!busy) work();
  });
}
