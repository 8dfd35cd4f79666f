// SPDX-License-Identifier: Apache-2.0

/// Which jobs a ``LaneCrew`` has, which thread is at which, and who is to be woken.
///
/// What it sees to: where a lane is ready, a thread that is at no job is on its way to it. One is woken for all of them, because as long as a
/// job takes less time than waking does, one thread is done with them first; where it finds that nobody has ended a job meanwhile,
/// it wakes as many as are wanted. And where it finds nothing to do, it looks again by itself a little later: until then nobody is
/// woken for what follows, unless jobs of that lane have taken long before.
///
/// At the end each thread that ends wakes the next, so that whoever is told of the end of it all need not wait for theirs.
struct LaneCrewPlan {
  private struct Queue {
    var jobs: [LaneCrew.Job] = []
    /// A thread is at one of its jobs, or it is among those that are ready.
    var isTaken = false
    /// One of its jobs has taken longer than waking a thread.
    var isSlow = false
    /// Nobody waits for it any more.
    var isLeft = false
  }

  private enum Place: Hashable {
    case looking, asleep
    case lane(Int)
    case ended
  }

  /// What a thread does next.
  enum Turn {
    case job(LaneCrew.Job, isLeft: Bool)
    /// - Parameter looksAgain: whether it comes back by itself when nobody has woken it for a little while.
    case sleep(looksAgain: Bool)
    case end
  }

  /// What becomes of a thread after the end.
  enum Whereabouts: Hashable {
    case awaited, ended
    /// It is at a job that is not waited for.
    case left
  }

  private var lanes: [Queue]
  /// Those with a job that no thread has taken, in the order in which they came to be.
  private var ready: [Int] = []
  private var places: [Place]
  /// The threads that sleep. Who did so last is woken first, because its caches are the warmest.
  private var asleep: [Int] = []
  /// How many threads are awake and at no job. Each takes one that is ready before it sleeps.
  private var looking: Int
  /// The thread that sleeps and will look again by itself.
  private var lookout: Int?
  private var jobsEnded = 0
  /// What that was when the thread was woken, or looked last.
  private var endedBefore: [Int]
  private var isClosed = false

  /// As many threads, which are on their way here.
  init(lanes count: Int) {
    lanes = Array(repeating: Queue(), count: count)
    places = Array(repeating: .looking, count: count)
    looking = count
    endedBefore = Array(repeating: -1, count: count)
  }

  /// These threads could not be had.
  mutating func lose(_ threads: Range<Int>) {
    for thread in threads { places[thread] = .ended }
    looking -= threads.count
  }

  /// - Returns: the threads to wake.
  mutating func put(_ jobs: [LaneCrew.Job]) -> [Int] {
    if isClosed { return [] }
    add(jobs)
    return looking == 0 && !ready.isEmpty ? wake(1) : []
  }

  private mutating func add(_ jobs: [LaneCrew.Job]) {
    for job in jobs {
      lanes[job.lane].jobs.append(job)
      if !lanes[job.lane].isTaken { makeReady(job.lane) }
    }
  }

  private mutating func makeReady(_ lane: Int) {
    lanes[lane].isTaken = true
    ready.append(lane)
  }

  /// Of as many threads as lanes, one at least is at no job while a lane is ready; but for those that have ended.
  private mutating func wake(_ wanted: Int) -> [Int] {
    let count = min(wanted, asleep.count)
    if count <= 0 { return [] }
    let woken = Array(asleep.suffix(count))
    asleep.removeLast(count)
    looking += count
    for thread in woken {
      places[thread] = .looking
      endedBefore[thread] = jobsEnded
      if lookout == thread { lookout = nil }
    }
    return woken
  }

  /// What a thread has done.
  struct Served {
    var lane: Int
    /// Longer than waking a thread takes.
    var tookLong: Bool
  }

  /// A thread has ended a job, or woken up.
  /// - Parameter following: what follows from the job.
  /// - Returns: what it does now, and the threads to wake before.
  mutating func turn(
    of thread: Int, after served: Served?, _ following: [LaneCrew.Job]
  ) -> (Turn, woken: [Int]) {
    if let served {
      jobsEnded += 1
      looking += 1
      let lane = served.lane
      if served.tookLong { lanes[lane].isSlow = true }
      if lanes[lane].jobs.isEmpty { lanes[lane].isTaken = false } else { makeReady(lane) }
      add(following)
    } else if places[thread] == .asleep {
      asleep.removeAll { $0 == thread }
      looking += 1
      if lookout == thread { lookout = nil }
    }
    looking -= 1
    guard !ready.isEmpty else {
      if isClosed {
        places[thread] = .ended
        return (.end, looking == 0 ? wake(1) : [])
      }
      return (.sleep(looksAgain: rest(thread, wasWoken: served == nil)), [])
    }
    // At the end those that are waited for come first: nobody else may be left, and what comes after a call that does not
    // return is not done.
    let lane = ready.remove(at: isClosed ? ready.firstIndex { !lanes[$0].isLeft } ?? 0 : 0)
    places[thread] = .lane(lane)
    let job = lanes[lane].jobs.removeFirst()
    let isAlone = served == nil && endedBefore[thread] == jobsEnded
    return (.job(job, isLeft: isClosed && lanes[lane].isLeft), wakeBefore(lane, isAlone: isAlone))
  }

  /// - Returns: whether it looks again.
  private mutating func rest(_ thread: Int, wasWoken: Bool) -> Bool {
    places[thread] = .asleep
    asleep.append(thread)
    // Others are at work, and were quicker than it was.
    let isOvertaken = wasWoken && endedBefore[thread] != jobsEnded && looking + asleep.count < places.count
    endedBefore[thread] = jobsEnded
    guard isOvertaken, lookout == nil else { return false }
    lookout = thread
    return true
  }

  /// A thread leaves for a job on that lane: sees to what is ready besides.
  private mutating func wakeBefore(_ lane: Int, isAlone: Bool) -> [Int] {
    if isClosed, looking == 0 { return wake(max(1, ready.count)) }
    if isAlone { return wake(ready.count - looking) }
    if looking > 0 || ready.isEmpty { return [] }
    let mayTakeLong = lanes[lane].isSlow || ready.contains { lanes[$0].isSlow }
    return lookout == nil || mayTakeLong ? wake(1) : []
  }

  /// Takes no more jobs, other than what follows from those that there are.
  /// - Parameter left: lanes that are not waited for.
  /// - Returns: the threads to wake.
  mutating func close(leaving left: [Int]) -> [Int] {
    isClosed = true
    for lane in left { lanes[lane].isLeft = true }
    return looking == 0 ? wake(1) : []
  }

  func whereabouts(of thread: Int) -> Whereabouts {
    switch places[thread] {
    case .ended: .ended
    case .lane(let lane) where lanes[lane].isLeft: .left
    case .looking, .asleep, .lane: .awaited
    }
  }
}
