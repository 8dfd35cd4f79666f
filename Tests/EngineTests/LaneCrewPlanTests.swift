// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import LinuxIO

@Suite("Which thread of a crew does what")
struct LaneCrewPlanTests {
  private func job(_ lane: Int) -> LaneCrew.Job { LaneCrew.Job(on: lane) { [] } }

  private func lane(_ turn: LaneCrewPlan.Turn) -> Int? { if case .job(let job, _) = turn { job.lane } else { nil } }

  /// Threads that have all found nothing to do.
  private func resting(lanes: Int) -> LaneCrewPlan {
    var plan = LaneCrewPlan(lanes: lanes)
    for thread in 0..<lanes { _ = plan.turn(of: thread, after: nil, []) }
    return plan
  }

  private func ended(_ lane: Int, tookLong: Bool = false) -> LaneCrewPlan.Served {
    LaneCrewPlan.Served(lane: lane, tookLong: tookLong)
  }

  /// - Returns: whether the thread sleeps, and if so whether it looks again.
  private func sleeps(_ turn: LaneCrewPlan.Turn) -> Bool? {
    if case .sleep(let looksAgain) = turn { looksAgain } else { nil }
  }

  @Test("who ends a job takes what follows from it, and nobody is woken for that")
  func following() {
    var plan = resting(lanes: 4)
    #expect(plan.put([job(0)]) == [3])
    var step = plan.turn(of: 3, after: nil, [])
    #expect(lane(step.0) == 0 && step.woken == [])
    for next in [1, 2, 0, 3] {
      step = plan.turn(of: 3, after: lane(step.0).map { ended($0) }, [job(next)])
      #expect(lane(step.0) == next && step.woken == [])
    }
    #expect(sleeps(plan.turn(of: 3, after: ended(3), []).0) == false)
  }

  @Test(
    "for several jobs one thread is woken, and where it finds that none has ended meanwhile it wakes as many as there are"
  )
  func stuck() {
    var plan = resting(lanes: 5)
    #expect(plan.put([job(4)]) == [4])
    _ = plan.turn(of: 4, after: nil, [])
    var step = plan.turn(of: 4, after: ended(4), [job(0), job(1), job(2), job(3)])
    #expect(lane(step.0) == 0 && step.woken == [3])
    step = plan.turn(of: 3, after: nil, [])
    #expect(lane(step.0) == 1 && step.woken == [1, 2])
    step = plan.turn(of: 2, after: nil, [])
    #expect(lane(step.0) == 2 && step.woken == [])
  }

  @Test("who was woken and finds nothing to do looks again by itself, and until then nobody is woken for what follows")
  func lookout() {
    var plan = resting(lanes: 6)
    _ = plan.put([job(5)])
    _ = plan.turn(of: 5, after: nil, [])
    var step = plan.turn(of: 5, after: ended(5), [job(0), job(1)])
    #expect(lane(step.0) == 0 && step.woken == [4])
    step = plan.turn(of: 5, after: ended(0), [])
    #expect(lane(step.0) == 1 && step.woken == [])
    #expect(sleeps(plan.turn(of: 4, after: nil, []).0) == true)
    step = plan.turn(of: 5, after: ended(1), [job(0), job(1), job(2), job(3)])
    #expect(lane(step.0) == 0 && step.woken == [])
    // That one comes, takes a job and has another come; which finds both where they were, and wakes as many as there are.
    step = plan.turn(of: 4, after: nil, [])
    #expect(lane(step.0) == 1 && step.woken == [3])
    step = plan.turn(of: 3, after: nil, [])
    #expect(lane(step.0) == 2 && step.woken == [2])
  }

  @Test("who looks again and finds that nothing has happened sleeps until it is woken")
  func lookoutEnds() {
    var plan = resting(lanes: 3)
    _ = plan.put([job(0)])
    _ = plan.turn(of: 2, after: nil, [])
    #expect(plan.turn(of: 2, after: ended(0), [job(0), job(1)]).woken == [1])
    #expect(lane(plan.turn(of: 2, after: ended(0), []).0) == 1)
    #expect(sleeps(plan.turn(of: 1, after: nil, []).0) == true)
    #expect(sleeps(plan.turn(of: 1, after: nil, []).0) == false)
    #expect(plan.turn(of: 2, after: ended(1), [job(0), job(1)]).woken == [1])
  }

  @Test("nobody relies on somebody who looks again where jobs of a lane have taken long before")
  func slow() {
    var plan = resting(lanes: 4)
    _ = plan.put([job(0)])
    _ = plan.turn(of: 3, after: nil, [])
    #expect(plan.turn(of: 3, after: ended(0), [job(0), job(1)]).woken == [2])
    _ = plan.turn(of: 3, after: ended(0), [])
    #expect(sleeps(plan.turn(of: 2, after: nil, []).0) == true)
    #expect(plan.turn(of: 3, after: ended(1, tookLong: true), [job(2), job(1)]).woken == [2])
  }

  @Test("at the end each thread that ends wakes the next, and a lane that is left is not waited for")
  func end() {
    var plan = resting(lanes: 3)
    #expect(plan.put([job(0)]) == [2])
    _ = plan.turn(of: 2, after: nil, [])
    #expect(plan.close(leaving: [0]) == [1])
    #expect(plan.put([job(1)]) == [])
    #expect(plan.turn(of: 1, after: nil, []).woken == [0])
    #expect(plan.turn(of: 0, after: nil, []).woken == [])
    #expect((0..<3).map { plan.whereabouts(of: $0) } == [.ended, .ended, .left])
    _ = plan.turn(of: 2, after: ended(0), [])
    #expect(plan.whereabouts(of: 2) == .ended)
  }

  @Test("threads that could not be had are not waited for, and those that were there end")
  func lost() {
    var plan = LaneCrewPlan(lanes: 4)
    _ = plan.turn(of: 0, after: nil, [])
    plan.lose(2..<4)
    #expect(plan.close(leaving: []) == [])
    // The second comes only now.
    #expect(plan.turn(of: 1, after: nil, []).woken == [0])
    _ = plan.turn(of: 0, after: nil, [])
    #expect((0..<4).allSatisfy { plan.whereabouts(of: $0) == .ended })
  }

  /// Threads in any order, with jobs that hang.
  private struct Game {
    var plan: LaneCrewPlan
    /// The lane that each thread serves; nil where it is on its way.
    var serving: [Int?]
    var sleeping: Set<Int> = []
    /// Of these, those that look again by themselves.
    var lookouts: Set<Int> = []
    var ended: Set<Int> = []
    let hung: Set<Int>
    var random = SystemRandomNumberGenerator()
    var left: [Int]
    var log: [String] = []

    init(lanes: Int, hung: Set<Int>) {
      plan = LaneCrewPlan(lanes: lanes)
      serving = Array(repeating: nil, count: lanes)
      self.hung = hung
      left = Array(repeating: 0, count: lanes)
    }

    mutating func put(_ lanes: [Int]) {
      for lane in lanes { left[lane] += 1 }
      wake(plan.put(lanes.map { LaneCrew.Job(on: $0) { [] } }))
    }

    mutating func wake(_ threads: [Int]) {
      for thread in threads {
        #expect(sleeping.remove(thread) != nil, "a thread is woken that does not sleep")
        lookouts.remove(thread)
      }
    }

    /// - Returns: whether any thread could do anything.
    mutating func step(following: Int) -> Bool {
      let able = serving.indices.filter { thread in
        (!sleeping.contains(thread) || lookouts.contains(thread)) && !ended.contains(thread)
          && !(serving[thread].map(hung.contains) ?? false)
      }
      guard let thread = able.randomElement(using: &random) else { return false }
      let served = serving[thread]
      let follows = served == nil || following == 0 ? [] : [Int.random(in: 0..<left.count, using: &random)]
      for lane in follows { left[lane] += 1 }
      sleeping.remove(thread)
      lookouts.remove(thread)
      let done = served.map { LaneCrewPlan.Served(lane: $0, tookLong: Bool.random(using: &random)) }
      let (turn, woken) = plan.turn(of: thread, after: done, follows.map { LaneCrew.Job(on: $0) { [] } })
      serving[thread] = nil
      switch turn {
      case .job(let job, _):
        #expect(!serving.contains(job.lane), "two threads serve one lane")
        serving[thread] = job.lane
        left[job.lane] -= 1
      case .sleep(let looksAgain):
        sleeping.insert(thread)
        if looksAgain { lookouts.insert(thread) }
      case .end: ended.insert(thread)
      }
      wake(woken)
      return true
    }
  }

  @Test("whatever hangs, and in whatever order threads come, every job of the other lanes is done")
  func anyOrder() {
    var random = SystemRandomNumberGenerator()
    for round in 0..<2000 {
      let lanes = Int.random(in: 1...8, using: &random)
      let hung = Set((0..<lanes).filter { _ in round % 3 > 0 && Bool.random(using: &random) })
      var game = Game(lanes: lanes, hung: hung)
      for _ in 0..<30 {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: game.put((0..<lanes).filter { _ in Bool.random(using: &random) })
        default: _ = game.step(following: Int.random(in: 0...1, using: &random))
        }
      }
      if round % 2 == 0 { game.wake(game.plan.close(leaving: Array(hung))) }
      // What the last jobs lead to is done as well, also when it comes after the end was said.
      for _ in 0..<10 { _ = game.step(following: Int.random(in: 0...1, using: &random)) }
      while game.step(following: 0) {}
      for lane in 0..<lanes where !hung.contains(lane) { #expect(game.left[lane] == 0, "lane \(lane) was forgotten") }
      for lane in hung {
        #expect(game.left[lane] == 0 || game.serving.contains(lane), "a lane's first job waits for another lane's")
      }
      if round % 2 == 0 {
        let places = (0..<lanes).map { game.plan.whereabouts(of: $0) }
        #expect(!places.contains(.awaited), "somebody would wait for ever")
      }
    }
  }
}
