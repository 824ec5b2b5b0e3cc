/**
 * Where the program is killed: every label in its code (faults.ts lists them), with the number of hits that are sure to come, one of which is
 * chosen. The test of a group fails when a label of it was not struck; test/house.test.ts, when a label in the code is in none.
 */

export type Points = Readonly<Record<string, number>>

/** test/fault/kill-points.test.ts */
export const enginePoints = {
  /** Of an engine that serves, under the clients' work. */
  serving: {
    'COMMIT:RESERVE': 20,
    'COMMIT:DUCKDB': 20,
    'COMMIT:APPEND': 20,
    'COMMIT:APPENDED': 20,
    'COMMIT:OWN': 2,
    'GROUP:APPEND': 20,
    'GROUP:COMMIT': 20,
    'TOGETHER:BEGIN': 10,
    'TOGETHER:COMMIT': 10,
    'JOURNAL:WRITE': 20,
    'JOURNAL:SYNC': 40,
    'JOURNAL:DURABLE': 20,
    'MARK:MOVE': 20,
    'WIRE:ANSWER': 40,
    'CHECKPOINT:BEGIN': 2,
    'CHECKPOINT:WATERMARK': 2,
    'CHECKPOINT:RUN': 2,
    'CHECKPOINT:HOLD': 2,
    'ENGINE:SETTINGS': 8,
  },
  /** The same; after these there is nothing to replay: ENGINE:STOP ends it in order, with a checkpoint. */
  checkpointed: { 'CHECKPOINT:DONE': 2, 'ENGINE:STOP': 6 },
  /** Of an engine that serves one client alone. */
  alone: { 'AHEAD:WRITE': 120, 'AHEAD:WITHDRAW': 3 },
  /** Of a start that finds a transaction in doubt which DuckDB refuses. */
  doubtful: { 'DOUBT:TRY': 8, 'DOUBT:TRIED': 3, 'BATCH:KEEP': 9, 'DOUBT:CUT': 5 },
  /** Of every start on a journal that has something to replay. */
  starting: {
    'ENGINE:DIRECTORY': 1,
    'LOCK:DIRECTORY': 1,
    'LOCK:OPEN': 2,
    'LOCK:PID': 1,
    'RECOVERY:DIRECTORY': 3,
    'REPAIR:LEFTOVER': 3,
    'REPAIR:UNBORN': 3,
    'REPAIR:OPEN': 2,
    'REPAIR:CUT': 1,
    'REPAIR:REWRITE': 1,
    'REPAIR:SYNC': 2,
    'RECOVERY:OPEN': 3,
    'RECOVERY:WAL': 3,
    'RECOVERY:REPLAY': 1,
    'REPLAY:COMMIT': 1,
    'RECOVERY:REPLAYED': 1,
    'JOURNAL:DIRECTORY': 1,
    'SEGMENT:CREATE': 2,
    'SEGMENT:HEADER': 1,
    'SEGMENT:ALLOCATE': 1,
    'SEGMENT:SYNC': 2,
    'SEGMENT:ENTRY': 2,
    'SEGMENT:THROUGH': 2,
    'SEGMENT:DROP': 3,
    'MARK:REPLACE': 8,
    'MARK:OPEN': 2,
    'LISTENER:SOCKET': 3,
    'CONTROL:SOCKET': 3,
    'ENGINE:FACTS': 8,
  },
  /** Of the very first start. */
  first: { 'IDENTITY:WRITE': 9, 'RECOVERY:CREATE': 1, 'RECOVERY:CHECKPOINT': 3 },
  rotation: { 'JOURNAL:ROTATE': 1, 'SEGMENT:SEAL': 3 },
  /** Of a start that puts a damaged segment aside. */
  damaged: { 'REPAIR:QUARANTINE': 1, 'REPAIR:KEEP': 2, 'REPAIR:REASON': 8, 'REPAIR:REPLACE': 6 },
} satisfies Record<string, Points>

/** test/fault/spill-points.test.ts */
export const spillPoints = {
  writing: { 'SPILL:CREATE': 2, 'SPILL:HEADER': 1, 'SPILL:WRITE': 16, 'SPILL:SYNC': 2, 'SPILL:ENTRY': 2, 'SPILL:DISCARD': 3 },
  /** Of a start with three spilled transactions to replay, and a spill that nothing refers to. */
  starting: { 'REPAIR:SPILL': 3, 'RECOVERY:REPLAY': 1, 'REPLAY:COMMIT': 3, 'RECOVERY:REPLAYED': 1 },
  /** Of a start that puts a damaged spill aside. */
  damaged: { 'REPAIR:QUARANTINE': 1, 'REPAIR:REASON': 8, 'REPAIR:SPILL': 5 },
} satisfies Record<string, Points>

/** test/fault/agent-points.test.ts */
export const agentPoints = {
  /** Of an agent that finds its engine, under the clients' work; what must be there for it is put there. */
  guarding: {
    'AGENT:DIRECTORY': 1,
    'AGENT:SOCKET': 3,
    'AGENT:FACTS': 8,
    'CURSOR:DIRECTORY': 2,
    'CURSOR:SAVE': 40,
    'CURSOR:FOREIGN': 3,
    'SUPERVISOR:STATE': 8,
    'DEADLETTER:SAVE': 9,
    'INCIDENT:SAVE': 9,
    'LOG:ROTATE': 8,
  },
  /** Of one that removes a segment and its spill. */
  retaining: { 'RETENTION:REMOVE': 3, 'RETENTION:SPILL': 3 },
  /** Of one that takes a snapshot every second, and keeps the last. */
  keeping: {
    'SNAPSHOT:HOLD': 1,
    'SNAPSHOT:DIRECTORY': 1,
    'SNAPSHOT:COPY': 9,
    'SNAPSHOT:MANIFEST': 8,
    'SNAPSHOT:RELEASE': 1,
    'SNAPSHOT:PRUNE': 6,
    'COPY:LEFTOVER': 3,
    'CURSOR:BAD': 3,
  },
  stopping: { 'AGENT:STOP': 6 },
  /** Of one that finds the database file damaged, in the order in which they come. */
  restoring: {
    'LOG:OPEN': 2,
    'INCIDENT:SAVE': 9,
    'SUPERVISOR:STATE': 16,
    'QUARANTINE:DIRECTORY': 2,
    'QUARANTINE:MOVE': 3,
    'QUARANTINE:REASON': 8,
    'RESTORE:DIRECTORY': 1,
    'RESTORE:COPY': 9,
  },
  /** Of evidence that lies on another file system. */
  bringing: { 'QUARANTINE:ASIDE': 3, 'QUARANTINE:COPY': 6, 'QUARANTINE:COPIED': 3 },
} satisfies Record<string, Points>

/** test/fault/adoption-points.test.ts */
export const adoptionPoints = {
  /** Until the plan is there, each attempt begins anew. */
  preparing: {
    'ADOPTION:DIRECTORY': 1,
    'ADOPTION:CLEAR': 1,
    'ADOPTION:WORKSHOP': 1,
    'ADOPTION:COPY': 12,
    'ADOPTION:REPLAY': 1,
    'ADOPTION:SCHEMA': 1,
    'ADOPTION:CHECKPOINT': 1,
  },
  /** In the order in which they come. */
  finishing: {
    'ADOPTION:PLAN': 8,
    'ADOPTION:SNAPSHOT': 7,
    'ADOPTION:QUARANTINE': 1,
    'ADOPTION:KEEP': 6,
    'ADOPTION:REASON': 8,
    'ADOPTION:WAL': 3,
    'ADOPTION:REPLACE': 3,
    'ADOPTION:DONE': 2,
  },
  /** Of an agent that finds a file which DuckDB opens neither with its WAL nor without. */
  refusing: { 'TAKEOVER:BACK': 3 },
} satisfies Record<string, Points>

/**
 * The demonstration works on a directory that it has made for itself and throws away; nothing goes on from what it leaves. Installing a service of Windows
 * touches no data, and does all of it when it is typed again.
 */
export const exempt = ['DEMO:DAMAGE', 'DEMO:STAGE', 'SERVICE:INSTALL', 'SERVICE:REMOVE']

export const grouped = [enginePoints, spillPoints, agentPoints, adoptionPoints].flatMap(labelsOf)

export function labelsOf(groups: Readonly<Record<string, Points>>): string[] {
  return Object.values(groups).flatMap((points) => Object.keys(points))
}
