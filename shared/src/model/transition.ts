/** One cell of a state table: the next state, or `stay` when the event changes nothing. */
export type Cell<State extends string> = State | 'stay';

/** Every state names its answer to every event; the compiler demands all cells. */
export type TransitionTable<State extends string, Event extends string> = Readonly<
  Record<State, Readonly<Record<Event, Cell<State>>>>
>;

/** The state after the event. Pure; returns the same state for `stay`. */
export function nextState<State extends string, Event extends string>(
  table: TransitionTable<State, Event>,
  state: State,
  event: Event,
): State {
  const cell: string = table[state][event];
  return cell === 'stay' ? state : (cell as State);
}
