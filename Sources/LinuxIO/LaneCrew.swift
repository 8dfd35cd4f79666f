// SPDX-License-Identifier: Apache-2.0
internal import Synchronization

/// Lanes that share their threads: jobs of one lane are carried out one after the other, those of different lanes at the same
/// time.
///
/// Any thread serves any lane, and who has ended a job goes on with the next that is ready: for what follows from a job nobody has
/// to wake up. There are as many threads as lanes, and a lane has one of them at a time. So no lane waits for a job of another, be
/// it one that never comes back.
public final class LaneCrew: Sendable {
  /// Something to be done on a lane.
  public struct Job: Sendable {
    let lane: Int
    let body: @Sendable () -> [Job]

    /// - Parameters:
    ///   - lane: counted from 0.
    ///   - body: does it, and returns what follows from it, in order.
    public init(on lane: Int, _ body: @escaping @Sendable () -> [Job]) {
      self.lane = lane
      self.body = body
    }
  }

  /// Microseconds in which a thread wakes up, on a machine that is at work: about, and rather more.
  private static let wakingTime: UInt64 = 100

  private let plan: Mutex<LaneCrewPlan>
  /// What each thread sleeps on.
  private let beds: [BlockingQueue<Void>]
  /// Told of what ``finish(leaving:)`` waits for.
  private let ends = BlockingQueue<Void>()
  private let threads = Mutex<[BlockingThread]>([])

  /// Threads that sleep. Whoever makes them finishes them: they hold the crew.
  /// - Parameter name: of each, with a number behind it; at most 11 bytes.
  public init(lanes: Int, name: String) throws(SystemError) {
    plan = Mutex(LaneCrewPlan(lanes: lanes))
    beds = (0..<lanes).map { _ in BlockingQueue() }
    for number in 0..<lanes {
      do throws(SystemError) {
        let thread = try BlockingThread(name: "\(name) \(number)") { [self] in serve(number) }
        threads.withLock { $0.append(thread) }
      } catch {
        plan.withLock { $0.lose(number..<lanes) }
        finish()
        throw error
      }
    }
  }

  /// Adds jobs behind those that their lanes have already. Ignored once the crew is finished.
  public func put(_ jobs: [Job]) { wake(plan.withLock { $0.put(jobs) }) }

  private func wake(_ numbers: [Int]) { for number in numbers { beds[number].put(()) } }

  private func serve(_ number: Int) {
    var served: LaneCrewPlan.Served?
    var following: [Job] = []
    while true {
      let (turn, woken) = plan.withLock { $0.turn(of: number, after: served, following) }
      wake(woken)
      following = []
      switch turn {
      case .job(let job, let isLeft):
        if isLeft { ends.put(()) }
        let began = monotonicMicroseconds()
        following = job.body()
        served = LaneCrewPlan.Served(
          lane: job.lane, tookLong: monotonicMicroseconds() - began > Self.wakingTime)
      case .sleep(let looksAgain):
        _ = beds[number].take(until: looksAgain ? monotonicMicroseconds() + Self.wakingTime : nil)
        served = nil
      case .end:
        return ends.put(())
      }
    }
  }

  /// Waits until every job is done, and ends the threads. To be called once, and not by a job.
  /// - Parameter left: lanes that are not waited for. What a call that does not return holds up is done when it does all the
  ///   same, and its thread ends by itself then.
  public func finish(leaving left: [Int] = []) {
    wake(plan.withLock { $0.close(leaving: left) })
    let threads = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    while true {
      let places = plan.withLock { plan in threads.indices.map { plan.whereabouts(of: $0) } }
      if !places.contains(.awaited) {
        for (thread, place) in zip(threads, places) where place == .ended { thread.join() }
        return
      }
      _ = ends.take()
    }
  }
}
