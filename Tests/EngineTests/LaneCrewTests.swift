// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Synchronization
import Testing

@Suite("Lanes that share their threads")
struct LaneCrewTests {
  private typealias Job = LaneCrew.Job

  /// A job that does something, and from which nothing follows.
  private func job(_ lane: Int, _ body: @escaping @Sendable () -> Void) -> Job {
    Job(on: lane) {
      body()
      return []
    }
  }

  @Test("as many jobs as there are lanes are under way at the same time")
  func sameTime() throws {
    for count in [1, 2, 21] {
      let crew = try LaneCrew(lanes: count, name: "test")
      // Each waits for all the others.
      let begun = Mutex(0)
      let all = (0..<count).map { _ in BlockingQueue<Void>() }
      crew.put(
        (0..<count).map { lane in
          job(lane) {
            let number = begun.withLock { begun in
              begun += 1
              return begun
            }
            if number == count { for queue in all { queue.put(()) } }
            _ = all[lane].take()
          }
        })
      crew.finish()
      #expect(begun.withLock { $0 } == count)
    }
  }

  @Test("jobs of a lane are done in order and one at a time, whoever puts them")
  func order() throws {
    let crew = try LaneCrew(lanes: 3, name: "test")
    let done = Mutex<[[Int]]>([[], [], []])
    let busy = Mutex<Set<Int>>([])
    @Sendable func numbered(_ lane: Int, _ number: Int, then next: @escaping @Sendable () -> [Job]) -> Job {
      Job(on: lane) {
        #expect(busy.withLock { $0.insert(lane).inserted })
        done.withLock { $0[lane].append(number) }
        _ = busy.withLock { $0.remove(lane) }
        return next()
      }
    }
    for number in 0..<2000 {
      crew.put([
        numbered(0, number) { [numbered(2, number) { [] }] },
        numbered(1, number) { [] },
      ])
    }
    crew.finish()
    #expect(done.withLock { $0 } == [Array(0..<2000), Array(0..<2000), Array(0..<2000)])
  }

  @Test("a chain of jobs that follow from each other ends before the crew does")
  func chain() throws {
    let crew = try LaneCrew(lanes: 4, name: "test")
    let count = Mutex(0)
    @Sendable func link(_ left: Int) -> Job {
      Job(on: left % 4) {
        count.withLock { $0 += 1 }
        return left == 0 ? [] : [link(left - 1)]
      }
    }
    crew.put([link(9999)])
    crew.finish()
    #expect(count.withLock { $0 } == 10000)
    crew.put([link(0)])
    #expect(count.withLock { $0 } == 10000)
  }

  @Test("jobs that hang hold up no other lane, nor the end; what waits behind them is done when they come back")
  func hangs() throws {
    for hung in 1...3 {
      let crew = try LaneCrew(lanes: 4, name: "test")
      let back = (0..<hung).map { _ in BlockingQueue<Void>() }
      let late = BlockingQueue<Int>()
      let others = Mutex(0)
      crew.put(
        (0..<hung).flatMap { lane in [job(lane) { _ = back[lane].take() }, job(lane) { late.put(lane) }] }
          + (0..<100).map { number in job(hung + number % (4 - hung)) { others.withLock { $0 += 1 } } })
      crew.finish(leaving: Array(0..<hung))
      #expect(others.withLock { $0 } == 100)
      #expect(late.take(until: 0) == nil)
      for queue in back { queue.put(()) }
      #expect(Set((0..<hung).compactMap { _ in late.take() }) == Set(0..<hung))
    }
  }
}
