// Asks for documents.

// When many ask at one time, some are told to come again: not all of them at the same moment.
export async function get(path, times = 5) {
  const answer = await fetch(path, { cache: 'no-store' });
  if (answer.status === 503 && times > 1) {
    const wait = Number(answer.headers.get('retry-after') ?? 2) * (0.75 + Math.random() / 2);
    await new Promise((done) => setTimeout(done, 1000 * wait));
    return get(path, times - 1);
  }
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
