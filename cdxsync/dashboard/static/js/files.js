/** Reading a file that was chosen. */

/**
 * Its text. Throws an error that names `field` where it is not UTF-8: half of it would be lost by reading it so.
 *
 * @param {Blob & {name: string}} file
 * @param {string} field
 */
export async function textOf(file, field) {
  const content = await file.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw Object.assign(new Error(`${file.name} was not read.`), { fields: { [field]: ["must be text in UTF-8"] } });
  }
}
