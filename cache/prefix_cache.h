// The prefix cache: finds the pages whose K and V an earlier sequence computed
// for the same tokens.
//
// Entries are whole pages. An entry stands for all tokens from the beginning of
// a sequence to the end of its page, so entries form a tree: the parent of a
// page is the page before it, and there is one root for each salt. They are
// found by a hash chained from the root, and compared by parent and tokens: a
// collision costs time and never serves a wrong page.
//
// The pages belong to the pool, which keeps them while nobody references them
// and takes back those whose last reference went first. A sequence that holds a
// page holds every page before it and releases the last one first, so that a
// page is always older than its parent: eviction takes leaves, the least
// recently used first.
//
// Engine thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/page_pool.h"

namespace sentencekv {

// Hash of a page's tokens, chained to that of the page before it.
using PageHash = uint64_t (*)(uint64_t parent, std::span<const int32_t> tokens);
uint64_t HashPage(uint64_t parent, std::span<const int32_t> tokens);

struct PrefixCacheOptions {
  bool enabled = true;
  PageHash hash = HashPage;  // tests force collisions
};

// The pages that a sequence may begin with.
struct PrefixMatch {
  // Hold positions 0..num_tokens-1. The last one is to be copied when not all
  // of its tokens are among them: the rest of it will be written again.
  std::vector<int32_t> pages;
  int64_t num_tokens = 0;

  int64_t num_shared() const { return num_tokens / kPageTokens; }
  bool copies_last() const { return num_tokens % kPageTokens != 0; }
  // Leaves out the page that would be copied.
  void DropCopy();
};

class PrefixCache {
 private:
  struct Node;

 public:
  // How far a sequence's pages are registered. They must stay referenced.
  class Cursor {
   public:
    int64_t num_pages() const { return num_pages_; }

   private:
    friend class PrefixCache;
    Node* node_ = nullptr;  // of its last registered page
    int64_t num_pages_ = 0;
  };

  // `pool` must outlive the cache and have no other keeper.
  PrefixCache(PagePool& pool, PageHash hash);
  // REQUIRES: nobody references a page of the cache.
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The longest known beginning of `tokens`, at most `max_tokens` of them.
  // Takes nothing: valid until a page is taken from the pool or released.
  PrefixMatch Match(std::string_view salt, std::span<const int32_t> tokens,
                    int64_t max_tokens) const;
  // Where a sequence stands that has just shared `pages`, whole pages that
  // Match found.
  Cursor CursorAfter(std::span<const int32_t> pages) const;
  // Makes the sequence's pages that are filled by its first `num_tokens` tokens
  // known. Where a page of the same tokens is known already the sequence gets
  // that one in its table, and its own is released: equal prefixes lie in the
  // pool once.
  void Register(std::string_view salt, std::span<const int32_t> tokens,
                int64_t num_tokens, Cursor* cursor,
                std::vector<int32_t>* pages);
  // Forgets every page that nobody references; how many these were.
  int64_t Reset() { return pool_.DropIdle(); }

  int64_t num_pages() const { return static_cast<int64_t>(nodes_.size()); }
  // Aborts when the tree and the pool disagree. O(pages).
  void CheckInvariantsForTest() const;

 private:
  // Null when there is none.
  Node* Find(const Node* parent, uint64_t hash,
             std::span<const int32_t> tokens) const;
  Node* Insert(Node* parent, uint64_t hash, std::span<const int32_t> tokens,
               int32_t page);
  Node* RootFor(std::string_view salt);
  void OnDropped(int32_t page);

  PagePool& pool_;
  const PageHash hash_;
  const uint64_t secret_;  // nobody outside can choose tokens that collide
  // By salt; each has children.
  std::map<std::string, std::unique_ptr<Node>, std::less<>> roots_;
  std::unordered_multimap<uint64_t, std::unique_ptr<Node>> nodes_;  // by hash
  std::vector<Node*> node_of_page_;  // [pages of the pool], null: not known
};

}  // namespace sentencekv
